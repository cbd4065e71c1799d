"""The URLs of the tests' project."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from tests.unit.instrumentation import django_project as views


def handler500(request: HttpRequest) -> HttpResponse:
    """The app's own page."""
    return HttpResponse("sorry", status=500)


def rest(name: str) -> Any:
    """A view that is imported with its first request, as Django does with all of them."""

    def view(request: HttpRequest, **arguments: str) -> Any:
        from tests.unit.instrumentation import django_rest

        return getattr(django_rest, name).as_view()(request, **arguments)

    return csrf_exempt(view)


urlpatterns = [
    path("", views.index),
    path("session", views.session),
    path("me", views.me),
    path("ame", views.ame),
    path("login/<name>", views.login, name="login"),
    path("alogin/<name>", views.alogin),
    path("logout", views.logout),
    path("signup/<kind>", views.signup),
    path("blind", views.blind),
    path("api/<kind>", rest("Orders")),
    path("tokens/own", rest("ObtainAuthToken"), name="own token"),
    path("tokens/jwt", rest("TokenObtainPairView"), name="jwt"),
    path("tokens/second", rest("SecondFactor")),
    path("stream", views.stream),
    path("token", views.token),
    path("fail/<kind>", views.fail),
]
