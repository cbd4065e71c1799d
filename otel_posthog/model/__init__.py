"""The data of the bridge: `Signal` in, `CaptureEvent` out, one outcome for each. Standard library only."""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
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
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "AcceptResult": "outcome",
            "AttributeValue": "signal",
            "Attributes": "signal",
            "CaptureEvent": "capture",
            "Decision": "outcome",
            "DropReason": "outcome",
            "JsonValue": "capture",
            "Link": "signal",
            "LocalContext": "signal",
            "LocalException": "signal",
            "LocalFrame": "signal",
            "LossReason": "outcome",
            "Notice": "outcome",
            "Resource": "signal",
            "Scope": "signal",
            "Signal": "signal",
            "SignalKind": "signal",
        },
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
