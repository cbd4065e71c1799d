"""`rules_of`: what a rules file makes of a span or a log record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_posthog.testing.events import Event, Events

if TYPE_CHECKING:
    from otel_posthog.convert import Converter
    from otel_posthog.model import Decision, Signal


class Ruling:
    """A rules file, with the converter that applies it: a function of what it is given, with no memory.

    What needs memory in production (an exception counts once, so does an evaluation of a flag) is not done here.

    Args:
        converter: Has the rules.
    """

    def __init__(self, converter: Converter) -> None:
        self._converter = converter

    def events(self, *signals: Signal) -> Events:
        """The events that spans and log records become, in order.

        Args:
            *signals: By `make_span`, `make_span_event` and `make_log`.
        """
        return Events(Event(event) for signal in signals for event in self._converter.convert(signal).events)

    def event(self, signal: Signal) -> Event:
        """The one event that it becomes.

        Raises:
            AssertionError: It becomes none, or several; it says why.
        """
        __tracebackhide__ = True
        decision = self._converter.convert(signal)
        if len(decision.events) == 1:
            return Event(decision.events[0])
        kind = signal.kind.value.replace("_", " ")
        names = ", ".join(repr(event.event) for event in decision.events)
        raise AssertionError(
            f"the {kind} {signal.name!r} becomes {len(decision.events)} events: {names}"
            if names
            else f"the {kind} {signal.name!r} becomes no event: {_why(decision)}"
        )

    def why(self, signal: Signal) -> str:
        """Why it becomes no event (`not_tagged`, `rule`, …, docs/events.md); "" where it becomes one."""
        return _reason(self._converter.convert(signal))

    def rule(self, signal: Signal) -> str:
        """Name of the rule that decides; "" where none does."""
        return self._converter.convert(signal).rule


def rules_of(rules: str | Path, **settings: Any) -> Ruling:
    """Loads rules as production does.

    Args:
        rules: A file, or YAML text.
        **settings: Settings of conversion by the variable's name without `OTEL_POSTHOG_`, in lower case, e.g.
            `keep_query=True`; the environment does not count.

    Raises:
        RulesError: A rule is wrong; it names the line, the key and the way out.
        ConfigError: A setting is wrong.
    """
    from otel_posthog.config.load import load_settings
    from otel_posthog.convert import Converter
    from otel_posthog.rules.load import load_rules, parse_text
    from otel_posthog.testing.capturing import LANE

    text = isinstance(rules, str) and "\n" in rules
    loaded = load_settings({}, **{**LANE, **settings}, config=None if text else str(rules))
    return Ruling(Converter(loaded.convert, parse_text(str(rules)) if text else load_rules(loaded.rules)))


def _why(decision: Decision) -> str:
    said = _reason(decision)
    return f"{said} (rule {decision.rule!r})" if decision.rule else said


def _reason(decision: Decision) -> str:
    return decision.reason.value if decision.reason is not None else ""


__all__ = ["Ruling", "rules_of"]
