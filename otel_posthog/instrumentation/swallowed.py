"""Errors that a handler of the app made an answer of: neither OpenTelemetry nor any log gets to know them."""

from __future__ import annotations

from otel_posthog.api.exceptions import capture_exception


def swallowed(error: BaseException) -> None:
    """Captures `error` (one `$exception`, handled), unless it is an answer by itself: `abort(503)` is no defect.

    Args:
        error: The live exception for which a handler returned a server error.
    """
    if not any(base.__name__ == "HTTPException" for base in type(error).__mro__):
        capture_exception(error)
