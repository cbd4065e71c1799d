"""An OTLP/JSON request, looked into (see `prepare`)."""

from __future__ import annotations

from otel_posthog.gateway.decode_json import decode_logs_json, decode_traces_json
from otel_posthog.gateway.inbound import Kind
from otel_posthog.gateway.parts import Prepared
from otel_posthog.gateway.prepare_protobuf import prepared_of
from otel_posthog.gateway.wanted import WantedItems


def prepare_json(kind: Kind, body: bytes, wanted: WantedItems) -> Prepared:
    """Looks into an `Export…ServiceRequest` in OTLP/JSON.

    Raises:
        SignalError: The body is not a JSON object.
    """
    del wanted
    return prepared_of((decode_traces_json if kind == "traces" else decode_logs_json)(body))
