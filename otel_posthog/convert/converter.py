"""`Converter.convert`: Signal -> Decision, pure: no clock, no I/O, no randomness, no SDK."""

from __future__ import annotations

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.model import CaptureEvent, Decision, DropReason, Signal
from otel_posthog.rules import RuleSet
from otel_posthog.semconv import posthog


class Converter:
    """Turns one signal into its capture events.

    Args:
        config: What may be read and how much may be written.
        rules: Rules for untagged signals.
    """

    def __init__(self, config: ConvertConfig, rules: RuleSet) -> None:
        self._config = config
        self._rules = rules

    def convert(self, signal: Signal) -> Decision:
        """The events of `signal`, or the reason why there are none.

        Raises:
            SignalError: The signal is malformed beyond repair (counted as `DropReason.INVALID` by the bridge).
        """
        name = signal.attributes.get(posthog.EVENT)
        if not isinstance(name, str) or not name:
            return Decision(reason=DropReason.NOT_TAGGED)
        event = CaptureEvent(
            event=name,
            distinct_id=self.identify(signal) or "nobody",
            uuid="00000000-0000-0000-0000-000000000001",
            timestamp_ns=signal.time_ns,
            properties={},
        )
        return Decision(events=(event,))

    def identify(self, signal: Signal) -> str:
        """Who `signal` itself says it belongs to (never a fallback or late identity); "" where it does not say."""
        value = signal.attributes.get(posthog.DISTINCT_ID)
        return value if isinstance(value, str) else ""
