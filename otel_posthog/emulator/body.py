"""The JSON of a request that browsers may send too: plain, gzip, or `data=` of a form or query, base64 or not."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs

from otel_posthog.emulator.inflate import InflateError, InflateLimitError, gunzip, is_gzip
from otel_posthog.emulator.received import deeper_than, loads
from otel_posthog.emulator.refusal import Refusal

_MAX_DEPTH = 127
"""The strict JSON reader of the server stops at 128 levels."""


def read_body(body: bytes, query: Mapping[str, str], ceiling: int) -> Any:
    """The JSON document.

    Args:
        body: As sent.
        query: Query parameters.
        ceiling: Bytes after decompression.

    Raises:
        Refusal: 400 for what cannot be read, 413 for too much.
    """
    data = body or query.get("data", "").encode()
    if data.startswith(b"data="):
        form = parse_qs(data.decode("utf-8", "replace"))
        data = form.get("data", [""])[0].encode()
    if query.get("compression") == "lz64":
        _undecodable("lz64 is a browser form that the emulator does not read; send gzip or plain JSON")
    if is_gzip(data):
        try:
            data = gunzip(data, ceiling)
        except InflateLimitError:
            raise Refusal(413, "payload_too_large", "maximum event size exceeded") from None
        except InflateError:
            _undecodable("invalid gzip data")
    elif data and data[:1] not in b'{["' and not data[:1].isspace():
        data = _from_base64(data)
    if len(data) > ceiling:
        raise Refusal(413, "payload_too_large", "maximum event size exceeded")
    try:
        document = loads(data)
    except ValueError as error:
        raise Refusal(400, "invalid_json", f"failed to parse request: {error}") from None
    if deeper_than(document, _MAX_DEPTH):
        raise Refusal(400, "invalid_json", "failed to parse request: recursion limit exceeded")
    return document


def _undecodable(text: str) -> NoReturn:
    raise Refusal(400, "undecodable_body", f"failed to decode request: {text}")


def _from_base64(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return data
