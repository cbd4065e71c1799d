"""Whether a live exception is an answer below 500, a cancelled task or an exit: no issue, and not ours to mark.

The object knows more than its text (`convert/control_flow.py`): its base classes, and the status that it stands for.
"""

from __future__ import annotations

from typing import Any, Final

from otel_posthog.convert.control_flow import ANSWERS, ENDS, FIRST_SERVER_ERROR

_STATUS: Final = {
    "aiohttp.web_exceptions.HTTPException": "status",
    "litestar.exceptions.http_exceptions.HTTPException": "status_code",
    "ninja.errors.HttpError": "status_code",
    "rest_framework.exceptions.APIException": "status_code",
    "sanic.exceptions.SanicException": "status_code",
    "starlette.exceptions.HTTPException": "status_code",
    "tornado.web.HTTPError": "status_code",
    "webob.exc.WSGIHTTPException": "code",
    "werkzeug.exceptions.HTTPException": "code",
}
"""Base class -> its attribute with the HTTP status."""
_BUILTINS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


def is_control_flow(error: BaseException) -> bool:
    """Whether `error` is no error. Never raises."""
    if isinstance(error, _BUILTINS):
        return True
    for base in type(error).__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if name in ANSWERS or name in ENDS:
            return True
        if name in _STATUS:
            return _below_500(error, _STATUS[name])
    return False


def _below_500(error: BaseException, attribute: str) -> bool:
    try:
        status: Any = getattr(error, attribute, None)
        if status is None:
            # In werkzeug an app may abort with a whole response.
            status = getattr(getattr(error, "response", None), "status_code", None)
    except Exception:  # noqa: BLE001 - the app's property
        return False
    return isinstance(status, int) and status < FIRST_SERVER_ERROR
