"""What is an error, and what is only the way that an app answers, stops or ends."""

from __future__ import annotations

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.model import DropReason, Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet

CALM = [
    ("werkzeug.exceptions.NotFound", "404 Not Found: The requested URL was not found on the server."),
    ("werkzeug.exceptions.Unauthorized", "401 Unauthorized: …"),
    ("werkzeug.routing.exceptions.RequestRedirect", "308 Permanent Redirect: None"),
    ("fastapi.exceptions.HTTPException", "404: no such item"),
    ("starlette.exceptions.HTTPException", "403: Forbidden"),
    ("fastapi.exceptions.RequestValidationError", "1 validation error"),
    ("tornado.web.HTTPError", "HTTP 404: Not Found"),
    ("aiohttp.web_exceptions.HTTPNotFound", "Not Found"),
    ("rest_framework.exceptions.NotAuthenticated", "Authentication credentials were not provided."),
    ("django.http.response.Http404", "No Order matches the given query."),
    ("django.core.exceptions.PermissionDenied", ""),
    ("asyncio.exceptions.CancelledError", ""),
    ("KeyboardInterrupt", ""),
    ("SystemExit", "3"),
    ("GeneratorExit", ""),
    ("celery.exceptions.Retry", "Retry in 3s"),
]
ERRORS = [
    ("werkzeug.exceptions.InternalServerError", "500 Internal Server Error: …"),
    ("werkzeug.exceptions.ServiceUnavailable", "503 Service Unavailable: …"),
    ("starlette.exceptions.HTTPException", "502: upstream"),
    ("aiohttp.web_exceptions.HTTPBadGateway", "Bad Gateway"),
    ("rest_framework.exceptions.APIException", "A server error occurred."),
    ("requests.exceptions.HTTPError", "404 Client Error: Not Found for url: http://inventory/7"),
    ("urllib.error.HTTPError", "HTTP Error 404: Not Found"),
    ("discord.errors.HTTPException", "404: Unknown Message"),
    ("concurrent.futures._base.CancelledError", ""),
    ("shop.errors.NotFound", "404 Not Found: a class of the app's own"),
    ("StopIteration", ""),
    ("TimeoutError", ""),
]
CONVERTER = Converter(ConvertConfig(), RuleSet())


def carrier(kind: SignalKind, type_: str, message: str, *, severity: int = 0, scope: str = "shop") -> Signal:
    """A span event or log record that brings an exception."""
    return Signal(
        kind=kind,
        name="exception" if kind is SignalKind.SPAN_EVENT else "",
        attributes={"exception.type": type_, "exception.message": message},
        resource=Resource(),
        scope=Scope(scope),
        trace_id="1" * 32,
        span_id="2" * 16,
        time_ns=1_763_640_000_000_000_000,
        severity_number=severity,
    )


@pytest.mark.parametrize(("type_", "message"), CALM)
def test_answers_and_ends_are_no_issues(type_: str, message: str) -> None:
    """Dropped with a reason of their own, from a span event and from a warning."""
    for signal in (
        carrier(SignalKind.SPAN_EVENT, type_, message),
        carrier(SignalKind.LOG, type_, message, severity=13),
        carrier(SignalKind.LOG, type_, message, severity=21, scope="opentelemetry.instrumentation.exceptions"),
    ):
        decision = CONVERTER.convert(signal)
        assert (decision.events, decision.reason) == ((), DropReason.CONTROL_FLOW)


@pytest.mark.parametrize(("type_", "message"), CALM)
def test_what_is_logged_as_an_error_is_one(type_: str, message: str) -> None:
    """Somebody called it an error on purpose: gunicorn reports a worker's timeout as SystemExit."""
    (event,) = CONVERTER.convert(carrier(SignalKind.LOG, type_, message, severity=17)).events
    assert event.event == "$exception"


@pytest.mark.parametrize(("type_", "message"), ERRORS)
def test_errors_stay_errors(type_: str, message: str) -> None:
    """Answers from 500 on, and answers that the app received as a client."""
    (event,) = CONVERTER.convert(carrier(SignalKind.SPAN_EVENT, type_, message)).events
    assert event.event == "$exception"


def test_a_tag_still_counts() -> None:
    """An answer that is tagged is the event that it names, and no issue beside it."""
    signal = carrier(SignalKind.SPAN_EVENT, *CALM[0])
    tagged = Signal(
        kind=signal.kind,
        name=signal.name,
        attributes={**signal.attributes, "posthog.event": "page missed"},
        resource=signal.resource,
        scope=signal.scope,
        trace_id=signal.trace_id,
        span_id=signal.span_id,
        time_ns=signal.time_ns,
    )
    assert [event.event for event in CONVERTER.convert(tagged).events] == ["page missed"]
