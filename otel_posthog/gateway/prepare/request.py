"""`prepare`: looks into a request, and decodes of it only what can become an event (`parts.Prepare`).

Protobuf is searched and walked as bytes (`from_protobuf`), JSON as text (`from_json`). Either gives the same
events as decoding everything does (`tests/parity/test_prepare.py`).
"""

from __future__ import annotations

from otel_posthog.errors import SignalError
from otel_posthog.gateway.inbound import JSON, PROTOBUF, Kind
from otel_posthog.gateway.parts import Prepared, Wanted
from otel_posthog.gateway.prepare.wanted import EVERYTHING, WantedItems


def prepare(kind: Kind, media_type: str, body: bytes, wanted: Wanted) -> Prepared:
    """Reads as little of `body` as can be.

    Args:
        kind: `traces` or `logs`.
        media_type: `inbound.PROTOBUF` or `inbound.JSON`, without parameters.
        body: The inflated body; empty is an empty request (OTLP specification).
        wanted: What `wanted_of` made; of any other everything is read.

    Raises:
        SignalError: The body is no OTLP request, and nothing of it could be saved.
    """
    items = wanted if isinstance(wanted, WantedItems) and not wanted.everything else EVERYTHING
    if media_type == PROTOBUF:
        from otel_posthog.gateway.prepare.from_protobuf import prepare_protobuf

        return prepare_protobuf(kind, body, items)
    if media_type == JSON:
        from otel_posthog.gateway.prepare.from_json import prepare_json

        return prepare_json(kind, body, items)
    raise SignalError(f"the media type is neither {PROTOBUF} nor {JSON}")
