"""The relay's addresses for Django: `path("relay/", include("otel_posthog.browser.django.urls"))`."""

# Django's names have no types here.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt

from otel_posthog.browser.relay import MAX_REQUEST, Answer, relay


@csrf_exempt  # it changes nothing here, reads no cookie, and posthog-js has no token
def relayed(request: Any, path: str) -> Any:
    """One request of posthog-js's."""
    answer = _answer(request, path)
    response = HttpResponse(answer.body, status=answer.status)
    del response.headers["Content-Type"]
    for name, value in answer.headers.items():
        response.headers[name] = value
    return response


def _answer(request: Any, path: str) -> Answer:
    try:
        length = int(request.headers.get("Content-Length") or 0)
    except ValueError:
        return Answer.of(400)
    if length > MAX_REQUEST:
        return Answer.of(413)
    # Not `request.body`: that has a limit of the app's, and answers with a page.
    body = request.read(length) if length else b""
    return relay.answer(
        request.method,
        f"/{path}",
        request.META.get("QUERY_STRING", ""),
        request.headers,
        body,
        request.META.get("REMOTE_ADDR", ""),
    )


urlpatterns = [re_path(r"^(?P<path>.*)$", relayed)]
