"""Errors that a handler of the app made an answer of: neither OpenTelemetry nor any log gets to know them."""

from __future__ import annotations

from typing import Final

from otel_posthog.api.exceptions import capture_exception

_ANSWERS: Final = frozenset(("HTTPException", "APIException"))
"""Exceptions that are answers: Werkzeug's and Starlette's, and those of Django REST framework."""
_SERVER_ERROR: Final = 500
_DEEPEST: Final = 10
"""Answers made of answers that are looked behind."""


def swallowed(error: BaseException, status: int) -> None:
    """Captures `error` (one `$exception`, handled), unless it is an answer by itself: `abort(503)` is no defect.

    An answer 500 that was made of an error (`except KeyError: abort(500)`, `raise HTTPException(500) from error`)
    stands for that one.

    Args:
        error: The live exception for which a handler returned a server error.
        status: The status of that.
    """
    found: BaseException | None = error
    for _ in range(_DEEPEST):
        if found is None or not _is_answer(found):
            break
        if status != _SERVER_ERROR:
            return
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    if found is not None and not _is_answer(found):
        capture_exception(found)


def _is_answer(error: BaseException) -> bool:
    return any(base.__name__ in _ANSWERS for base in type(error).__mro__)
