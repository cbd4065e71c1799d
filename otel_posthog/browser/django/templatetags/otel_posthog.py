"""`{% posthog_script %}`; it takes what the Jinja function of the same name takes, as `consent=agreed`."""

# Django's names have no types here.
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

from django import template

from otel_posthog.browser.markup import Markup
from otel_posthog.browser.page import write
from otel_posthog.browser.request import nonce_of

register = template.Library()


@register.simple_tag(takes_context=True)
def posthog_script(context: Any, **arguments: Any) -> Markup:
    """The elements that a page needs in its `<head>`. Never raises at a page's making.

    Args:
        context: The template's; Django gives it.
        arguments: As for `otel_posthog.browser.posthog_script`.
    """
    request = context.get("request") or getattr(context, "request", None)
    arguments["nonce"] = arguments.get("nonce") or nonce_of(request, context)
    return write(request=request, **arguments)
