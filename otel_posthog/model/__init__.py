"""The data of the bridge: `Signal` in, `CaptureEvent` out, one outcome for each. Standard library only."""

from otel_posthog.model.capture import CaptureEvent, JsonValue
from otel_posthog.model.outcome import AcceptResult, Decision, DropReason, LossReason, Notice
from otel_posthog.model.signal import (
    Attributes,
    AttributeValue,
    Link,
    LocalContext,
    LocalException,
    LocalFrame,
    Resource,
    Scope,
    Signal,
    SignalKind,
)

__all__ = [
    "AcceptResult",
    "AttributeValue",
    "Attributes",
    "CaptureEvent",
    "Decision",
    "DropReason",
    "JsonValue",
    "Link",
    "LocalContext",
    "LocalException",
    "LocalFrame",
    "LossReason",
    "Notice",
    "Resource",
    "Scope",
    "Signal",
    "SignalKind",
]
