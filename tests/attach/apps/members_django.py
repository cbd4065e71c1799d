"""An ordinary Django project in one module, settings included: nothing of ours, nothing of OpenTelemetry."""

import os

from django.http import HttpResponse, JsonResponse
from django.urls import path

SECRET_KEY = "not a secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["MEMBERS_DATABASE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
LOGGING_CONFIG = None


def index(request):
    return HttpResponse("welcome")


def signup(request):
    from django.contrib.auth import login
    from django.contrib.auth.models import User

    name = request.POST["name"]
    user = User.objects.create_user(name, f"{name}@example.com", "secret", is_staff=name == "ada")
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("welcome")


def register(request):
    from django.contrib.auth.models import User

    User.objects.create_user(request.POST["name"], password="secret")
    return HttpResponse("please look into your mail")


def login(request):
    from django.contrib.auth import authenticate
    from django.contrib.auth import login as log_in

    user = authenticate(request, username=request.POST["name"], password="secret")
    if user is None:
        return HttpResponse("who?", status=403)
    log_in(request, user)
    return HttpResponse("welcome back")


def logout(request):
    from django.contrib.auth import logout as log_out

    log_out(request)
    return HttpResponse("bye")


def me(request):
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    return JsonResponse({"name": request.user.get_username()})


async def amine(request):
    user = await request.auser()
    return JsonResponse({"name": user.get_username()})


def fail(request):
    if request.user.is_authenticated:
        raise ValueError("no stock left")
    return HttpResponse(status=401)


def sorry(request):
    return HttpResponse("sorry", status=500)


handler500 = sorry
urlpatterns = [
    path("", index),
    path("signup", signup),
    path("register", register),
    path("login", login),
    path("logout", logout),
    path("me", me),
    path("mine", amine),
    path("fail", fail),
]
