"""A Django project for the tests, set up once in a process: settings and views."""

from __future__ import annotations

from collections.abc import Iterator

import django
from django.conf import settings
from django.contrib.auth import login as log_in
from django.contrib.auth import logout as log_out
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

import otel_posthog

BACKEND = "django.contrib.auth.backends.ModelBackend"


class Answering:
    """A middleware of the app that answers its own errors."""

    def __init__(self, get_response: object) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)  # type: ignore[operator]

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answers two kinds."""
        if isinstance(error, ArithmeticError):
            return HttpResponse("sorry", status=500)
        return HttpResponse("what?", status=400) if isinstance(error, LookupError) else None


def set_up() -> None:
    """Configures Django and makes its tables, in memory."""
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="not a secret",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.unit.instrumentation.django_urls",
        MIDDLEWARE=[
            "tests.unit.instrumentation.django_project.Answering",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "rest_framework",
            "rest_framework.authtoken",
        ],
        DATABASES={
            # One database for all threads: async views run the ORM in others.
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:members?mode=memory&cache=shared"}
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        USE_TZ=True,
        SIMPLE_JWT={"SIGNING_KEY": "not a secret, and long enough to be one"},
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def index(request: HttpRequest) -> HttpResponse:
    """Asks nobody."""
    otel_posthog.capture("looked")
    return HttpResponse("hi")


def session(request: HttpRequest) -> HttpResponse:
    """Reads the session, and asks nobody."""
    request.session.get("basket")
    otel_posthog.capture("shopped")
    return HttpResponse("hi")


def me(request: HttpRequest) -> HttpResponse:
    """Asks who it is."""
    known = request.user.is_authenticated
    otel_posthog.capture("asked")
    return HttpResponse(str(known))


async def ame(request: HttpRequest) -> HttpResponse:
    """Asks who it is."""
    await request.auser()
    otel_posthog.capture("asked")
    return HttpResponse("hi")


def login(request: HttpRequest, name: str) -> HttpResponse:
    """Logs in."""
    from django.contrib.auth.models import User

    log_in(request, User.objects.get(username=name), BACKEND)
    otel_posthog.capture("welcomed")
    return HttpResponse("hello")


async def alogin(request: HttpRequest, name: str) -> HttpResponse:
    """Logs in."""
    from django.contrib.auth import alogin as log_in
    from django.contrib.auth.models import User

    await log_in(request, await User.objects.aget(username=name), BACKEND)
    otel_posthog.capture("welcomed")
    return HttpResponse("hello")


@transaction.atomic
def signup(request: HttpRequest, kind: str) -> HttpResponse:
    """Makes accounts, and logs nobody in."""
    from django.contrib.auth.forms import UserCreationForm
    from django.contrib.auth.models import User

    make = User.objects.create_user
    request.user.is_authenticated  # noqa: B018 - as a form for those who are not does
    otel_posthog.capture("signed up")
    if kind == "form":
        form = UserCreationForm({"username": "new", "password1": "4Kx!horse", "password2": "4Kx!horse"})
        form.save()
    elif kind in ("two", "several"):
        for name in ("new", "newer"):
            make(name, password="4Kx!horse")
    elif kind == "invited":
        make("new")
    elif kind == "staff":
        make("new", password="4Kx!horse", is_staff=True)
    else:
        make("new", password="4Kx!horse")
    if kind == "rollback":
        transaction.set_rollback(True)
    if kind == "login":
        log_in(request, User.objects.get(username="new"), BACKEND)
    if kind == "logout":
        log_out(request)
    return HttpResponse("hello", status=422 if kind == "failed" else 200)


def blind(request: HttpRequest) -> HttpResponse:
    """Makes an account, and asks nobody who it is."""
    from django.contrib.auth.models import User

    User.objects.create_user("new", password="4Kx!horse")
    return HttpResponse("hello")


def logout(request: HttpRequest) -> HttpResponse:
    """Logs out."""
    log_out(request)
    otel_posthog.capture("left")
    return HttpResponse("bye")


def token(request: HttpRequest) -> HttpResponse:
    """As Django REST framework: who has a token is put into the request."""
    from django.contrib.auth.models import User

    request.user = User.objects.get(username=request.headers["x-key"])
    return HttpResponse("hi")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answers in pieces, long after the view has returned."""
    request.user.is_authenticated  # noqa: B018 - as a template would

    def words() -> Iterator[str]:
        otel_posthog.capture("said")
        yield "hi"

    return StreamingHttpResponse(words())


def fail(request: HttpRequest, kind: str) -> HttpResponse:
    """Raises."""
    raise {"arithmetic": ArithmeticError, "lookup": LookupError, "value": ValueError}[kind]("no stock left")
