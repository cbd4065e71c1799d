"""Events that somebody else has finished, on their way to the queue in front of the bridge: they leave as they are.

The `posthog` SDK has asked its own context for person, tags, groups and flags. So nothing of ours is added, or to
switch this on would change what is counted: the record says that it is a finished event (`convert/carrier.py`), as
those do that arrive at a gateway.
"""

from __future__ import annotations

from typing import Any, Final

from otel_posthog.lane.edge import OWN_SCOPE
from otel_posthog.lane.emitter import Emitter
from otel_posthog.lane.waiting import Item
from otel_posthog.model import AttributeValue, CaptureEvent, Scope, Signal, SignalKind
from otel_posthog.semconv import posthog
from otel_posthog.version import __version__

_SCOPE: Final = Scope(OWN_SCOPE, __version__)


def relay(event: CaptureEvent, emitter: Emitter) -> bool:
    """Hands over a finished event. Never blocks, does no I/O.

    Args:
        event: Its properties are JSON values, ours from now on.
        emitter: Whose worker takes it.

    Returns:
        Whether it was taken; counted as overflow where not.
    """
    return emitter.edge.worker.hand_over(_expand, (event, emitter))


def _expand(payload: tuple[CaptureEvent, Emitter]) -> tuple[Item]:
    event, emitter = payload
    properties = event.properties
    trace_id: Any = properties.get(posthog.TRACE_PROPERTY)
    span_id: Any = properties.get(posthog.SPAN_PROPERTY)
    # Only both: a span id alone names no span. What is no id of OpenTelemetry stays the property that it is.
    traced = _is_id(trace_id, 32) and _is_id(span_id, 16)
    attributes: dict[str, AttributeValue] = {
        posthog.CARRIER: posthog.CARRIER_LOG,
        posthog.EVENT: event.event,
        posthog.DISTINCT_ID: event.distinct_id,
        posthog.UUID: event.uuid,
        # In one piece: the names of properties are anything that people think of.
        posthog.PROPERTIES_JSON: properties,
    }
    signal = Signal(
        kind=SignalKind.LOG,
        name=event.event,
        attributes=attributes,
        resource=emitter._resource_now(),
        scope=_SCOPE,
        trace_id=trace_id if traced else "",
        span_id=span_id if traced else "",
        time_ns=event.timestamp_ns,
        observed_time_ns=event.timestamp_ns,
        severity_number=9,
        severity_text="INFO",
    )
    return (Item(signal, at_once=True, apart=True),)


def _is_id(value: object, length: int) -> bool:
    if not isinstance(value, str) or len(value) != length or value.strip("0123456789abcdef"):
        return False
    return bool(value.strip("0"))
