"""`otel-posthog explain`: what would become of recorded OTLP, item by item. Sends nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_posthog.cli.explain_text import Terminal
    from otel_posthog.convert import Converter
    from otel_posthog.gateway.decode.recorded import Recorded
    from otel_posthog.model import Decision, Signal

HELP = "show which events recorded OTLP would become, and why the rest would not"

DESCRIPTION = """
Reads files of OTLP traces and logs (protobuf, JSON, JSON lines as the Collector's file exporter writes them; gzip too)
and shows for each span, span event and log record the rule that decided, the events as they would be sent, the changes
to people and groups, or why nothing would be sent. Nothing leaves this machine. What needs memory between items is not
done here: the same exception on two carriers is shown twice.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `explain` to `parser`."""
    parser.description = DESCRIPTION
    parser.add_argument("files", metavar="FILE", nargs="+", help="recorded OTLP; `-` is standard input")
    parser.add_argument("--rules", metavar="FILE", help="rules file; without it OTEL_POSTHOG_CONFIG")
    parser.add_argument("--default-rules", action="store_true", help="append the default rule set")
    parser.add_argument("--json", action="store_true", help="one JSON object per item, then the totals, one per line")
    parser.add_argument("--only", choices=("captured", "dropped"), help="show these items alone; totals count all")


def run(args: argparse.Namespace) -> int:
    """Explains every file.

    Returns:
        0; 1 where the rules or a file could not be read (the message is on standard error).
    """
    from otel_posthog.cli.explain_text import Terminal
    from otel_posthog.convert import Converter
    from otel_posthog.errors import ConfigError
    from otel_posthog.rules.load import load_rules

    try:
        convert, rules_config = _settings(args.rules, defaults=args.default_rules)
        rules = load_rules(rules_config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    totals = Totals(rules=rules.names)
    terminal = Terminal.for_stream(sys.stdout)
    _explain(args, Converter(convert, rules), totals, terminal)
    return 1 if totals.unreadable else 0


def _explain(args: argparse.Namespace, converter: Converter, totals: Totals, terminal: Terminal) -> None:
    from otel_posthog.cli.explain_text import show_item, show_rejected, show_totals

    for file in args.files:
        for recorded in _recorded(file, totals):
            for item in _items(recorded, converter, totals):
                if args.only and (args.only == "captured") != bool(item.decision.events):
                    continue
                if args.json:
                    print(json.dumps(item.as_json(), ensure_ascii=False))
                else:
                    show_item(terminal, item)
            if recorded.decoded.error_messages and not args.json:
                show_rejected(terminal, file, recorded)
    if args.json:
        print(json.dumps({"totals": totals.as_json()}, ensure_ascii=False))
    else:
        show_totals(terminal, totals)


@dataclass(frozen=True, slots=True)
class Item:
    """One signal and what would become of it."""

    signal: Signal
    decision: Decision

    def as_json(self) -> dict[str, Any]:
        """The item for `--json`."""
        from otel_posthog.cli.explain_text import iso_time

        signal, decision = self.signal, self.decision
        return {
            "signal": {
                "kind": signal.kind.value,
                "name": signal.name,
                "span_kind": signal.span_kind,
                "service": signal.resource.attributes.get("service.name"),
                "time": iso_time(signal.time_ns),
                "trace_id": signal.trace_id,
                "span_id": signal.span_id,
            },
            "rule": decision.rule,
            "reason": decision.reason.value if decision.reason is not None else None,
            "notices": [notice.value for notice in decision.notices],
            "events": [
                {
                    "event": event.event,
                    "distinct_id": event.distinct_id,
                    "uuid": event.uuid,
                    "timestamp": iso_time(event.timestamp_ns),
                    "properties": event.properties,
                }
                for event in decision.events
            ],
        }


@dataclass(slots=True)
class Totals:
    """The account over all files."""

    rules: tuple[str, ...] = ()
    items: int = 0
    captured: int = 0
    rejected: int = 0
    unreadable: int = 0
    metrics: int = 0
    by_reason: Counter[str] = field(default_factory=Counter[str])
    by_rule: Counter[str] = field(default_factory=Counter[str])
    events: Counter[str] = field(default_factory=Counter[str])
    people: Counter[str] = field(default_factory=Counter[str])

    def add(self, item: Item) -> None:
        """Counts one item."""
        decision = item.decision
        self.items += 1
        if decision.rule:
            self.by_rule[decision.rule] += 1
        if not decision.events:
            self.by_reason[decision.reason.value if decision.reason is not None else "invalid"] += 1
            return
        self.captured += 1
        for event in decision.events:
            self.events[event.event] += 1
            if event.properties.get("$process_person_profile") is not False:
                self.people[event.distinct_id] += 1

    @property
    def idle_rules(self) -> tuple[str, ...]:
        """The user's rules that decided nothing; the default set never fits a recording as a whole."""
        from otel_posthog.rules.load import BUILTIN_PREFIX

        return tuple(name for name in self.rules if not self.by_rule[name] and not name.startswith(BUILTIN_PREFIX))

    def as_json(self) -> dict[str, Any]:
        """The totals for `--json`."""
        return {
            "items": self.items,
            "captured": self.captured,
            "dropped": dict(self.by_reason),
            "rejected": self.rejected,
            "unreadable": self.unreadable,
            "events": dict(self.events),
            "people": dict(self.people),
            "rules": {name: self.by_rule[name] for name in self.rules},
        }


def _settings(rules: str | None, *, defaults: bool) -> tuple[Any, Any]:
    from dataclasses import replace

    from otel_posthog.config.load import load_settings

    # Without endpoint and token nothing is complained about that has no part in this.
    environ = {name: value for name, value in os.environ.items() if name.startswith("OTEL_POSTHOG_")}
    settings = load_settings(environ)
    config = settings.rules
    if rules is not None:
        config = replace(config, path=rules)
    return settings.convert, replace(config, defaults=config.defaults or defaults)


def _recorded(file: str, totals: Totals) -> Iterator[Recorded]:
    from otel_posthog.errors import SignalError
    from otel_posthog.gateway.decode.recorded import read_recorded

    name = "standard input" if file == "-" else file
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        for recorded in read_recorded(raw):
            if recorded.error:
                totals.unreadable += 1
                place = f"{name}, {recorded.place}" if recorded.place else name
                print(f"{place}: {recorded.error}", file=sys.stderr)
            totals.metrics += recorded.kind == "metrics"
            yield recorded
    except OSError as error:
        totals.unreadable += 1
        print(f"{name}: {error.strerror}", file=sys.stderr)
    except SignalError as error:
        totals.unreadable += 1
        print(f"{name}: {error}", file=sys.stderr)


def _items(recorded: Recorded, converter: Converter, totals: Totals) -> Iterator[Item]:
    totals.rejected += recorded.decoded.rejected
    for signal in recorded.decoded.signals:
        item = Item(signal, _convert(converter, signal))
        totals.add(item)
        yield item


def _convert(converter: Converter, signal: Signal) -> Decision:
    from otel_posthog.errors import SignalError
    from otel_posthog.model import Decision, DropReason

    try:
        return converter.convert(signal)
    except SignalError:
        return Decision(reason=DropReason.INVALID)
