r"""The text of an OTLP/JSON request, read piece by piece.

`json.loads` of the largest request that is taken by default (64 MiB) keeps the interpreter to itself for seconds, and
makes half a gigabyte of dicts: health checks and every other request wait meanwhile. Here the envelope is walked in
Python, and each resource, scope and item is a piece for the C scanner: others get their turn in between, and an item
that nobody wants is let go at once.

    {"resourceSpans": [{"resource": PIECE, "scopeSpans": [{"scope": PIECE, "spans": [PIECE, …]}]}]}

A piece of more than `MAX_PIECE` characters is passed over and takes nothing else with it; what is nested deeper than
Python's stack is cut out of its piece.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from json.decoder import JSONDecoder
from typing import Any, Final, Literal, cast

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import Complaints

Json = dict[str, Any]

KEYS: Final = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
"""Of resources, scopes and items."""

MAX_PIECE: Final = 4 * 1024 * 1024
"""Characters. The C scanner reads them in some 50 ms, and PostHog takes events of a quarter of it."""

UNWANTED: Final = object()
"""In place of an item that nobody wants."""

TOO_LARGE: Final = "larger than 4 MiB"
"""In place of such a piece: no value of OTLP is a bare string where an object belongs."""

_MAX_DEPTH: Final = 400
"""Brackets. One level of an attribute value takes four of them, so that everything up to `decoded.MAX_DEPTH` fits."""
_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_OUTSIDE: Final = re.compile(r'[^"\[\]{}]*')
_INSIDE: Final = re.compile(r'[^"\\]*')
_BOM: Final = b"\xef\xbb\xbf"


def read_request(
    kind: Literal["traces", "logs"],
    body: bytes,
    complaints: Complaints,
    *,
    admits: Callable[[Any], bool] | None = None,
    take: Callable[[], object] = lambda: None,
    max_piece: int = MAX_PIECE,
) -> Json:
    """What `json.loads` makes of a request, with `UNWANTED` and `TOO_LARGE` in it.

    Args:
        kind: `traces` or `logs`.
        body: Its bytes; empty is an empty request.
        complaints: Told what had to be mended.
        admits: Whether an item is wanted; all are without it.
        take: Called for each resource, scope and item.
        max_piece: Characters of one piece, and how many are looked at together.

    Raises:
        SignalError: The body is not a JSON object.
    """
    if not body.strip():
        return {}
    text = _Text(body, complaints, max_piece)
    resources, scopes, items = KEYS[kind]

    def item() -> Any:
        take()
        value = text.value()
        return value if admits is None or value is TOO_LARGE or admits(value) else UNWANTED

    def scope() -> Any:
        take()
        return text.members({items: lambda: text.elements(item)})

    def resource() -> Any:
        take()
        return text.members({scopes: lambda: text.elements(scope)})

    request = text.members({resources: lambda: text.elements(resource)})
    if text.peek():
        raise text.broken("there is more behind its end")
    if not isinstance(request, dict):
        raise SignalError("the body is not an OTLP/JSON request: it is not a JSON object")
    return cast(Json, request)


class _Text:
    """JSON, of which about two pieces at a time are there as text.

    Args:
        body: UTF-8.
        complaints: Told what had to be mended.
        max_piece: Characters of one piece.
    """

    def __init__(self, body: bytes, complaints: Complaints, max_piece: int) -> None:
        self._body = body
        self._next = len(_BOM) if body.startswith(_BOM) else 0
        self._complaints = complaints
        self._max = max_piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._scan: Callable[[str, int], tuple[Any, int]] = vars(JSONDecoder())["scan_once"]  # in no type stubs
        self._text = ""
        self._at = 0
        self._ended = False
        self._surrogates = False

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None  # it matches nothing, too
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def members(self, readers: Mapping[str, Callable[[], Any]]) -> Any:
        """An object, some of whose members have readers of their own; anything else is a piece."""
        if self.peek() != "{":
            return self.value()
        self._at += 1
        found: Json = {}
        if self.peek() == "}":
            self._at += 1
            return found
        while True:
            if self.peek() != '"':
                raise self.broken("a key is missing")
            key = self.value()
            self._one_of(":")
            found[key] = readers.get(key, self.value)()
            if self._one_of(",}") == "}":
                return found

    def elements(self, read: Callable[[], Any]) -> Any:
        """A list, each element by `read`; anything else is a piece."""
        if self.peek() != "[":
            return self.value()
        self._at += 1
        found: list[Any] = []
        if self.peek() == "]":
            self._at += 1
            return found
        while True:
            found.append(read())
            if self._one_of(",]") == "]":
                return found

    def value(self) -> Any:
        """A piece."""
        self.peek()
        while not self._ended and len(self._text) - self._at <= self._max:
            self._more()
        try:
            value, end = self._scan(self._text, self._at)
        except RecursionError:
            piece = self._pass_over()
            value = self._too_large() if piece is None else _load_deep(piece)
        except (StopIteration, ValueError) as error:
            # It is no JSON, or goes on behind what is there.
            if self._ended or self._pass_over() is not None:
                raise self.broken(str(error) or "a value is missing") from None
            return self._too_large()
        else:
            size, self._at = end - self._at, end
            if size > self._max:
                return self._too_large()
        return _mend(value, self._complaints) if self._surrogates else value

    def broken(self, why: str) -> SignalError:
        """The error to raise."""
        return SignalError(f"the body is not JSON: {why}")

    def _one_of(self, expected: str) -> str:
        found = self.peek()
        if not found or found not in expected:
            raise self.broken(f"none of {' '.join(expected)} is where one has to be")
        self._at += 1
        return found

    def _too_large(self) -> str:
        self._complaints.note("a part of more than 4 MiB of JSON was left out; protobuf may be larger")
        return TOO_LARGE

    def _pass_over(self) -> str | None:
        """Goes to the end of a value by its brackets; its text, `None` where that is too large to be a piece."""
        kept: list[str] = []
        size = depth = 0
        start = self._at
        quoted = False
        while True:
            run = (_INSIDE if quoted else _OUTSIDE).match(self._text, self._at)
            assert run is not None
            self._at = run.end()
            if self._at + quoted >= len(self._text):  # a backslash is looked at with what follows it
                if self._ended and self._at >= len(self._text) - 1:
                    raise self.broken("it breaks off")
                size += self._at - start
                if size <= self._max:
                    kept.append(self._text[start : self._at])
                self._more()
                start = 0
                continue
            found = self._text[self._at]
            self._at += 1
            if quoted:
                if found == "\\":
                    self._at += 1
                    continue
                quoted = found != '"'
            elif found == '"':
                quoted = True
            else:
                depth += 1 if found in "[{" else -1
            if depth <= 0 and not quoted:
                break
        size += self._at - start
        return "".join([*kept, self._text[start : self._at]]) if size <= self._max else None

    def _more(self) -> None:
        chunk = self._body[self._next : self._next + self._max]
        self._next += len(chunk)
        self._ended = self._next >= len(self._body)
        self._text = self._text[self._at :] + self._decoded(chunk)
        self._at = 0
        self._surrogates = self._surrogates or "\\ud" in self._text or "\\uD" in self._text

    def _decoded(self, chunk: bytes) -> str:
        try:
            return self._decoder.decode(chunk, self._ended)
        except UnicodeDecodeError:
            self._complaints.note("invalid UTF-8 was replaced by U+FFFD")
            begun = self._decoder.getstate()
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._decoder.setstate(begun)
            return self._decoder.decode(chunk, self._ended)


def _load_deep(text: str) -> Any:
    """Parses JSON that is nested deeper than Python's stack: what lies too deep becomes a string.

    No value of OTLP is a bare string where an object belongs, so that the item around it is rejected and the others
    survive.
    """
    kept: list[str] = []
    depth = start = 0
    for token in _BRACKETS.finditer(text):
        bracket = token.group()
        if bracket in "[{":
            depth += 1
            if depth == _MAX_DEPTH:
                kept.append(text[start : token.start()])
        elif bracket in "]}":
            if depth == _MAX_DEPTH:
                kept.append('"nested too deep"')
                start = token.end()
            depth -= 1
    if depth < _MAX_DEPTH:
        kept.append(text[start:])
    try:
        return json.loads("".join(kept))
    except (ValueError, RecursionError) as error:
        raise SignalError(f"the body is not JSON: {error}") from None


def _mend(value: Any, complaints: Complaints) -> Any:
    """Replaces lone surrogates; called only where an escape of the surrogate range is in the text."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            complaints.note("a lone surrogate was replaced by U+FFFD")
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, list):
        return [_mend(item, complaints) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_mend(key, complaints): _mend(item, complaints) for key, item in cast(Json, value).items()}
    return value
