"""`bootstrap`: the flags of a page's visitor, for posthog-js to start with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from otel_posthog.flags.answer import FlagValue
from otel_posthog.flags.calls import About, survey
from otel_posthog.flags.overriding import overrides

if TYPE_CHECKING:
    from uuid import UUID

    from typing_extensions import Unpack

_ESCAPES: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&'"}
"""Nothing that could end a `<script>` element, an attribute, or begin a comment."""


class _Safe(str):
    """Text that templates take as it is: Jinja and Django ask for `__html__`, and then escape no further."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


class Bootstrap(dict[str, Any]):
    """The `bootstrap` of posthog-js's configuration; in a template it is JSON that is safe within `<script>`."""

    def json(self) -> str:
        """As JSON without `<`, `>`, `&`, `'` and characters beyond ASCII."""
        # Django makes text of it before it asks.
        return _Safe(json.dumps(self, ensure_ascii=True, default=str).translate(_ESCAPES))

    __html__ = json
    __str__ = json


def bootstrap(
    distinct_id: str | int | UUID | None = None,
    *,
    only: Iterable[str] | None = None,
    booleans: bool = False,
    payloads: bool = False,
    **about: Unpack[About],
) -> Bootstrap:
    """Flags for the browser: `posthog.init(key, {bootstrap: {{ flags.bootstrap() }}})`. Never raises; counts nothing.

    The page then shows the right variant at once, and the same as the server; posthog-js reports what it uses.

    Args:
        distinct_id: Whose page it is; the person of the context by default, else its visitor.
        only: These flags alone; the names of all of them are visible to everybody otherwise.
        booleans: Whether on or off, in place of variants.
        payloads: With `featureFlagPayloads`.
        about: As for `enabled`.

    Returns:
        `distinctID`, `isIdentifiedID` and `featureFlags`; the first two are missing where nobody is known.
    """
    asked, values, found = survey(distinct_id, **about)
    for key, answer in overrides().items():
        if answer.value is not None:
            values[key] = answer.value
            found.pop(key, None)
            if answer.payload is not None:
                found[key] = answer.payload
    wanted = None if only is None else {str(key) for key in only}
    shown: dict[str, FlagValue] = {
        key: bool(value) if booleans else value for key, value in values.items() if wanted is None or key in wanted
    }
    page = Bootstrap()
    if asked is not None and asked.distinct_id:
        page["distinctID"] = asked.distinct_id
        page["isIdentifiedID"] = asked.identified
    page["featureFlags"] = shown
    if payloads:
        page["featureFlagPayloads"] = {key: found[key] for key in shown if key in found}
    return page
