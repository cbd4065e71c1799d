"""An API of Django REST framework for the tests' project."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BasicAuthentication, SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.views import ObtainAuthToken
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.views import TokenObtainPairView

import otel_posthog


class Busy(APIException):
    """An answer of the app's own."""

    status_code = 503


def answer(error: Exception, context: Any) -> Response | None:
    """The app answers some of its errors itself."""
    if isinstance(error, ArithmeticError):
        return Response("sorry", status=500)
    return exception_handler(error, context)


class Orders(APIView):
    """Knows who orders by a token, by a password or by a session."""

    authentication_classes = (JWTAuthentication, TokenAuthentication, BasicAuthentication, SessionAuthentication)

    def get_exception_handler(self) -> Any:
        """Ours."""
        return answer

    def get(self, request: Any, kind: str) -> Response:
        """Captures, and fails as asked for."""
        otel_posthog.capture("ordered")
        if kind == "arithmetic":
            raise ArithmeticError("no stock left")
        if kind == "value":
            raise ValueError("no stock left")
        if kind == "invalid":
            raise ValidationError("how many?")
        if kind == "busy":
            raise Busy
        if kind == "made of":
            try:
                return Response({}[kind])
            except KeyError as error:
                raise APIException from error
        return Response(request.user.is_authenticated)

    def post(self, request: Any, kind: str) -> Response:
        """Makes an account."""
        from django.contrib.auth.models import User

        User.objects.create_user(kind, password="4Kx!horse")
        return Response(status=201)


class SecondFactor(ObtainAuthToken):
    """The right password is not enough."""

    def post(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Asks for more."""
        super().post(request, *args, **kwargs)
        return Response({"next": "code"}, status=401)


__all__ = ["ObtainAuthToken", "Orders", "SecondFactor", "TokenObtainPairView"]
