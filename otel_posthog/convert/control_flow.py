"""Exceptions that are no errors: the way that an app answers (404, 401, 422), stops a task, or ends.

A span records whatever leaves it, so `abort(404)` in a view looks like a failure. Reported as one, every stranger who
guesses addresses would open issues. What an app answers with 500 and more, and what somebody logs as an error on
purpose, stays an exception.

The types are spelled as `exception.type` has them; only frameworks that a client of theirs cannot confuse with an
answer that the app *received* are in here.
"""

from __future__ import annotations

from typing import Final

from otel_posthog.model import Signal, SignalKind
from otel_posthog.semconv import otel

FIRST_SERVER_ERROR: Final = 500

ENDS: Final = frozenset(
    {
        "KeyboardInterrupt", "SystemExit", "GeneratorExit", "CancelledError",
        "builtins.KeyboardInterrupt", "builtins.SystemExit", "builtins.GeneratorExit",
        "asyncio.exceptions.CancelledError", "trio.Cancelled", "trio._core._exceptions.Cancelled",
        "greenlet.GreenletExit",
        "celery.exceptions.Ignore", "celery.exceptions.Reject", "celery.exceptions.Retry",
    }
)  # fmt: skip
"""Something was stopped, put off, or is leaving. Bare names are what log records and builtins have."""

ANSWERS: Final = frozenset(
    {
        "django.http.response.Http404", "django.core.exceptions.PermissionDenied",
        "fastapi.exceptions.RequestValidationError", "fastapi.exceptions.WebSocketRequestValidationError",
        "starlette.exceptions.WebSocketException", "starlette.websockets.WebSocketDisconnect",
    }
)  # fmt: skip
"""An answer below 500, whatever the message."""

_WITH_STATUS: Final = (
    "werkzeug.exceptions.", "werkzeug.routing.exceptions.",
    "starlette.exceptions.HTTPException", "fastapi.exceptions.HTTPException", "tornado.web.HTTPError",
)  # fmt: skip
"""Types whose message begins with the status: `404 Not Found: …`, `404: Not Found`, `HTTP 404: …`."""
_BY_NAME: Final = ("aiohttp.web_exceptions.", "rest_framework.exceptions.")
_SERVER_ERRORS: Final = frozenset(
    {
        "APIException", "HTTPException", "HTTPServerError", "HTTPInternalServerError", "HTTPNotImplemented",
        "HTTPBadGateway", "HTTPServiceUnavailable", "HTTPGatewayTimeout", "HTTPVersionNotSupported",
        "HTTPVariantAlsoNegotiates", "HTTPInsufficientStorage", "HTTPNotExtended",
        "HTTPNetworkAuthenticationRequired",
    }
)  # fmt: skip
_ERROR_SEVERITY: Final = 17
_INSTRUMENTATION: Final = "opentelemetry.instrumentation."


def is_no_error(signal: Signal) -> bool:
    """Whether the exception that `signal` brings is control flow.

    A log record of severity ERROR and more was written by somebody who calls it an error, unless an instrumentation
    wrote it.
    """
    if (
        signal.kind is SignalKind.LOG
        and signal.severity_number >= _ERROR_SEVERITY
        and not signal.scope.name.startswith(_INSTRUMENTATION)
    ):
        return False
    if signal.local is not None and signal.local.control_flow:
        return True
    type_ = signal.attributes.get(otel.EXCEPTION_TYPE)
    message = signal.attributes.get(otel.EXCEPTION_MESSAGE)
    return isinstance(type_, str) and is_control_flow(type_, message if isinstance(message, str) else "")


def is_control_flow(type_: str, message: str) -> bool:
    """Whether an exception of this `exception.type` and `exception.message` is control flow."""
    if type_ in ENDS or type_ in ANSWERS:
        return True
    if type_.startswith(_BY_NAME):
        return type_.rpartition(".")[2] not in _SERVER_ERRORS
    # Without regular expressions: they would be compiled in every process that has traces.
    status = message.removeprefix("HTTP ")[:3] if type_.startswith(_WITH_STATUS) else ""
    return status.isascii() and status.isdigit() and 100 <= int(status) < FIRST_SERVER_ERROR
