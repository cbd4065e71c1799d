"""OTLP request bodies -> Signals in the normal form of `model/signal.py`.

The body is what arrives after inflation, in protobuf (`application/x-protobuf`) or OTLP/JSON (`application/json`).
Both give the same Signals as `sdk/readable.py` gives for the live objects (`tests/parity`).

One bad span never poisons a request: where the fast way fails, each span and log record is read by itself and the rest
survives. Only a body that is not an OTLP request at all raises.
"""

from __future__ import annotations

from typing import Literal

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import Decoded
from otel_posthog.model import Signal

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

Kind = Literal["traces", "logs"]


def media_type(content_type: str) -> str:
    """The media type without parameters, lower-case: `Application/JSON; charset=utf-8` -> `application/json`."""
    return content_type.partition(";")[0].strip().lower()


def decode(kind: Kind, body: bytes, *, content_type: str) -> Decoded:
    """Decodes one `ExportTraceServiceRequest` or `ExportLogsServiceRequest`.

    Args:
        kind: `traces` or `logs`.
        body: The inflated body; empty is an empty request (OTLP specification).
        content_type: `application/x-protobuf` or `application/json`; parameters are ignored.

    Raises:
        SignalError: The content type is another, or the body is no such request and nothing could be salvaged.
    """
    media = media_type(content_type)
    if media == PROTOBUF:
        from otel_posthog.gateway.decode.from_protobuf import decode_logs_protobuf, decode_traces_protobuf

        return decode_traces_protobuf(body) if kind == "traces" else decode_logs_protobuf(body)
    if media == JSON:
        from otel_posthog.gateway.decode.from_json import decode_logs_json, decode_traces_json

        return decode_traces_json(body) if kind == "traces" else decode_logs_json(body)
    raise SignalError(f"content type {content_type!r} is neither {PROTOBUF} nor {JSON}")


def decode_traces(body: bytes, *, content_type: str) -> list[Signal]:
    """The signals of an `ExportTraceServiceRequest`: each span, followed by its span events.

    Raises:
        SignalError: As `decode`.
    """
    return list(decode("traces", body, content_type=content_type).signals)


def decode_logs(body: bytes, *, content_type: str) -> list[Signal]:
    """The signals of an `ExportLogsServiceRequest`.

    Raises:
        SignalError: As `decode`.
    """
    return list(decode("logs", body, content_type=content_type).signals)
