"""An OTLP/JSON request, looked into (see `prepare`)."""

from __future__ import annotations

from otel_posthog.gateway.decode_json import decode_logs_json, decode_traces_json
from otel_posthog.gateway.inbound import Kind
from otel_posthog.gateway.parts import Prepared
from otel_posthog.gateway.wanted import WantedItems
from otel_posthog.model import SignalKind

_SIGNAL_BYTES = 2_000


def prepare_json(kind: Kind, body: bytes, wanted: WantedItems) -> Prepared:
    """Looks into an `Export…ServiceRequest` in OTLP/JSON.

    Raises:
        SignalError: The body is not a JSON object.
    """
    del wanted
    decoded = (decode_traces_json if kind == "traces" else decode_logs_json)(body)
    signals = decoded.signals
    candidates = sum(signal.kind is not SignalKind.SPAN_EVENT for signal in signals)
    return Prepared(
        received=candidates + decoded.rejected,
        skipped=0,
        rejected=decoded.rejected,
        messages=decoded.error_messages,
        candidates=candidates,
        size=len(signals) * _SIGNAL_BYTES,
        signals=lambda: signals,
    )
