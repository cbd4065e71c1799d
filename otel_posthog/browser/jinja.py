"""`posthog_script` for Jinja: Flask's templates, Starlette's and FastAPI's, and environments of one's own.

otel_posthog.browser.install(app)             # Flask
otel_posthog.browser.install(templates)       # Starlette and FastAPI: Jinja2Templates
otel_posthog.browser.install(environment)     # jinja2.Environment
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context

from otel_posthog.browser.markup import Markup
from otel_posthog.browser.page import write
from otel_posthog.browser.request import nonce_of


@pass_context
def posthog_script(
    context: Context,
    *,
    nonce: str = "",
    consent: bool | None = None,
    flags: Iterable[str] | None = None,
    properties: Mapping[str, Any] | None = None,
    signed_out: bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> Markup:
    """What a page needs in its `<head>`. Never raises.

    Args:
        context: The template's; Jinja gives it.
        nonce: Of the Content-Security-Policy; by default that of Flask-Talisman, where it is there.
        consent: Whether this visitor agreed; by configuration where `None`.
        flags: Flags that the page begins with, `["*"]` for all; by configuration where `None`.
        properties: Further properties of the page's events.
        signed_out: Nobody is logged in: whoever was so in this browser before is forgotten. By the request's user
            where `None`.
        options: Further options of posthog-js; they win.
    """
    request = context.get("request")
    return write(
        request=request,
        nonce=nonce or nonce_of(request, context),
        consent=consent,
        flags=flags,
        properties=properties,
        signed_out=signed_out,
        options=options,
    )


def install(owner: Any) -> None:
    """Makes `posthog_script()` known to templates.

    Args:
        owner: A Flask app, a `Jinja2Templates` of Starlette or FastAPI, or a `jinja2.Environment`.

    Raises:
        TypeError: It has no Jinja environment.
    """
    environment = getattr(owner, "jinja_env", None) or getattr(owner, "env", None) or owner
    known = getattr(environment, "globals", None)
    if not isinstance(known, dict):
        raise TypeError(
            f"{type(owner).__name__} has no Jinja environment: give a Flask app, Jinja2Templates, or an Environment"
        )
    known["posthog_script"] = posthog_script


__all__ = ["install", "posthog_script"]
