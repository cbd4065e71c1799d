"""The URLs of the tests' project."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.unit.instrumentation import django_project as views


def handler500(request: HttpRequest) -> HttpResponse:
    """The app's own page."""
    return HttpResponse("sorry", status=500)


urlpatterns = [
    path("", views.index),
    path("session", views.session),
    path("me", views.me),
    path("ame", views.ame),
    path("login/<name>", views.login, name="login"),
    path("alogin/<name>", views.alogin),
    path("logout", views.logout),
    path("stream", views.stream),
    path("token", views.token),
    path("fail/<kind>", views.fail),
]
