"""The URLs of the tests' project."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.unit.instrumentation import django_project as views


def handler500(request: HttpRequest) -> HttpResponse:
    """The app's own page."""
    return HttpResponse("sorry", status=500)


def rest() -> Any:
    """Imported with the first request, as Django does with views."""
    from tests.unit.instrumentation.django_rest import Orders

    return Orders


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
    path("api/<kind>", lambda request, kind: rest().as_view()(request, kind=kind)),
    path("stream", views.stream),
    path("token", views.token),
    path("fail/<kind>", views.fail),
]
