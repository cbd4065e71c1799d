"""The same shop in Django, settings and views in one module."""

import os
import sys

SECRET_KEY = "not a secret"
ROOT_URLCONF = "shop_django"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "otel_posthog.browser.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SHOP_DATABASE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [os.path.join(os.path.dirname(__file__), "templates")],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]


def application():
    """The WSGI application, set up."""
    import django
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    sys.modules.setdefault("shop_django", sys.modules[__name__])
    django.setup()
    call_command("migrate", verbosity=0)
    return get_wsgi_application()


def urls():
    """The addresses, with their views."""
    from django.contrib.auth import login, logout
    from django.contrib.auth.models import User
    from django.http import HttpResponse, JsonResponse
    from django.shortcuts import redirect, render
    from django.urls import include, path

    import otel_posthog
    from otel_posthog import flags

    def index(request):
        button = flags.variant("button", default="plain") if request.user.is_authenticated else "plain"
        return render(request, "shop_django.html", {"button": button, "note": request.GET.get("note", "")})

    def enter(request):
        user, _ = User.objects.get_or_create(username=request.POST["name"])
        login(request, user)
        return redirect("/")

    def leave(request):
        logout(request)
        return redirect("/")

    def order(request):
        if not request.user.is_authenticated:
            return HttpResponse(status=403)
        otel_posthog.capture("order placed", {"total": 12.5})
        return JsonResponse({})

    return [
        path("", index),
        path("login", enter),
        path("logout", leave),
        path("api/order", order),
        path("relay/", include("otel_posthog.browser.django.urls")),
    ]


class _Lazy(list):
    """Views need Django set up, which needs these settings."""

    def _fill(self):
        if not list.__len__(self):
            self.extend(urls())

    def __iter__(self):
        self._fill()
        return super().__iter__()

    def __reversed__(self):
        self._fill()
        return super().__reversed__()


urlpatterns = _Lazy()
