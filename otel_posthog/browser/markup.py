"""Writes the HTML: data that cannot leave its `<script>`, and the JavaScript of `static/`."""

from __future__ import annotations

import functools
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

_ESCAPES: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&'"}
"""Nothing that could end a `<script>` element or begin a comment; what is beyond ASCII is escaped by `json`."""


class Markup(str):
    """HTML that templates take as it is: Jinja and Django ask for `__html__`, and then escape no further."""

    __slots__ = ()

    def __html__(self) -> Markup:
        return self


def script_of(page: Mapping[str, Any], *, traceparent: str = "", nonce: str = "") -> Markup:
    """The elements for a page's `<head>`.

    Args:
        page: What `static/page.js` reads.
        traceparent: For the meta element; "" for none.
        nonce: Of the Content-Security-Policy; "" for none.
    """
    meta = f'<meta name="traceparent" content="{html.escape(traceparent)}">\n' if traceparent else ""
    attribute = f' nonce="{html.escape(nonce)}"' if nonce else ""
    data = json.dumps(page, ensure_ascii=True, default=str).translate(_ESCAPES)
    # Not by `re.sub` or `%`: the data may hold anything.
    before, after = source("page.js").rsplit("PAGE", 1)
    return Markup(f"{meta}<script{attribute}>\n{source('analytics.js')}{before}{data}{after}</script>\n")


@functools.cache
def source(name: str) -> str:
    """A file of `static/`, without comments and indentation: it stands in every page."""
    text = resources.files("otel_posthog.browser").joinpath("static").joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"^\s+", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL), flags=re.MULTILINE)


__all__ = ["Markup", "script_of", "source"]
