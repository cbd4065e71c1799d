r"""An OTLP/JSON request, looked into (see `prepare`).

Parsing JSON costs twenty times what parsing protobuf does, so a request of which nothing is wanted is not parsed
(docs/decisions/0076):

1. Where no needle is in the text, its items are counted by a key that each has once, and that is all. The text is not
   proved to be JSON then; it has to begin and end like it, and to hold the request's own key.
2. Else it is parsed, and only items with a needle in them are read on.

JSON can spell one text in several ways. A text with an escape in which a needle could hide (`\u0070osthog.event`,
`\/`) is not searched but parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from otel_posthog.delivery.encoding import choose_dumps
from otel_posthog.gateway.decode.decoded import Decoded, Ration
from otel_posthog.gateway.decode.from_json import decode_some
from otel_posthog.gateway.inbound import Kind
from otel_posthog.gateway.parts import Prepared
from otel_posthog.gateway.prepare.prepared import prepared_of
from otel_posthog.gateway.prepare.scan import finder_of
from otel_posthog.gateway.prepare.wanted import Needle, Place, WantedItems

_REQUEST_KEY: Final = {"traces": b'"resourceSpans"', "logs": b'"resourceLogs"'}
_ITEM_KEYS: Final = {"traces": (b'"startTimeUnixNano"',), "logs": (b'"timeUnixNano"', b'"observedTimeUnixNano"')}
"""Each item has one of them once."""
_ASCII_ESCAPE: Final = re.compile(rb"\\u00[0-7]")
_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"


def prepare_json(kind: Kind, body: bytes, wanted: WantedItems) -> Prepared:
    """Looks into an `Export…ServiceRequest` in OTLP/JSON.

    Raises:
        SignalError: The body is not a JSON object.
    """
    hunt = wanted.hunt(kind)
    if wanted.everything or hunt.every:
        return _prepared(decode_some(kind, body, ration=Ration()))
    needles = _Needles((*hunt.tags, *hunt.rules))
    if not needles.may_hide_in(body) and not needles.are_in(body):
        count = _count(kind, body)
        if count:
            return prepared_of(Decoded(), skipped=count)
    return _prepared(decode_some(kind, body, _Admits(needles), Ration()))


def _prepared(decoded: tuple[Decoded, int]) -> Prepared:
    return prepared_of(decoded[0], skipped=decoded[1])


def _count(kind: Kind, body: bytes) -> int:
    """How many items are in a text that looks like such a request; 0 where it has none, or does not."""
    start = body[: len(_BOM) + 64].removeprefix(_BOM).lstrip(_SPACE)[:1]
    end = body[-64:].rstrip(_SPACE)[-1:]
    if start != b"{" or end != b"}" or _REQUEST_KEY[kind] not in body:
        return 0
    return max(body.count(key) for key in _ITEM_KEYS[kind])


class _Needles:
    """Needles as JSON spells them."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        needles = tuple(needles)
        self._spelt = tuple(spelling for needle in needles for spelling in _spellings(needle))
        self._ascii = all(needle.text.isascii() for needle in needles)
        self._slash = any("/" in needle.text for needle in needles)

    def may_hide_in(self, body: bytes) -> bool:
        """Whether `body` has an escape for what could be part of a needle."""
        find = finder_of(body)
        if find(b"\\u", 0) >= 0 and (not self._ascii or _ASCII_ESCAPE.search(body)):
            return True
        return self._slash and find(b"\\/", 0) >= 0

    def are_in(self, text: bytes) -> bool:
        """Whether any of them is in `text`."""
        find = finder_of(text)
        return any(find(spelling, 0) >= 0 for spelling in self._spelt)


class _Admits:
    """Whether an item, parsed, has a needle in it: written anew, it has no escapes that could hide one."""

    def __init__(self, needles: _Needles) -> None:
        self._needles = needles
        self._dumps = choose_dumps()

    def __call__(self, item: Any) -> bool:
        try:
            return self._needles.are_in(self._dumps(item))
        except (TypeError, ValueError):
            return True  # nothing that JSON can write: whoever reads it says what is wrong


def _spellings(needle: Needle) -> tuple[bytes, ...]:
    text = json.dumps(needle.text, ensure_ascii=False)[1:-1].encode()
    if needle.place is Place.WHOLE:
        return (b'"%b"' % text,)
    if needle.place is Place.TAG:
        return (b'"' + text,)
    if needle.place is Place.EXCEPTION:
        return (b'"' + text, b'.%b"' % text)
    return (text,)
