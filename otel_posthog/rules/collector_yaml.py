"""`CollectorFilter` -> the processors of a Collector configuration, or bare conditions.

Three processors in this order, on a copy of all telemetry (a pipeline of its own):

- `transform/product_mark` marks spans of which an event is to be passed on: a filter on spans cannot look into their
  events (and one on span events would remove the others, whose position is part of an event's uuid);
- `filter/product` drops what nothing asks for. It keeps what a condition fails on: `error_mode: ignore`;
- `transform/product_unmark` takes the marks off again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otel_posthog.rules.collector_filter import CollectorFilter, Passage
from otel_posthog.rules.ottl import Expression, Joined, Path, literal
from otel_posthog.version import __version__

MARK: Final = "otel_posthog.product"
"""Attribute of a span, while it is inside these processors."""
SIGNALS: Final = ("traces", "logs")


def processors_yaml(found: CollectorFilter, signals: Iterable[str] = SIGNALS) -> str:
    """A Collector configuration with the three processors; merge it with `--config`, given after the main one."""
    signals = tuple(signals)
    lines = [
        "# Which telemetry goes to the gateway. Written by `otel-posthog rules collector-filter`: write it anew when",
        "# the rules change, rather than edit it.",
        f"# otel-posthog {__version__}; rules: {', '.join(found.digests) or 'none'}",
        "#",
        *_reasons(found, signals),
        "processors:",
    ]
    if "traces" in signals:
        lines += _mark(found)
    lines += ["  filter/product:", "    error_mode: ignore"]
    if "traces" in signals:
        keep = [*(passage.condition for passage in found.span)]
        lines += ["    trace_conditions:", *_drop("span", keep, extra=f"{_mark_path()} != nil")]
    if "logs" in signals:
        lines += ["    log_conditions:", *_drop("log", [passage.condition for passage in found.log])]
    if "traces" in signals:
        lines += [
            "  transform/product_unmark:",
            "    error_mode: ignore",
            "    trace_statements:",
            "      - context: span",
            "        statements:",
            f"          - delete_key(span.attributes, {literal(MARK)})",
        ]
    return "\n".join(lines) + "\n"


def conditions_text(found: CollectorFilter, signals: Iterable[str] = SIGNALS) -> str:
    """The conditions alone, each true for what is to be passed on, for other components that take OTTL."""
    signals = tuple(signals)
    parts: list[str] = []
    for kind in _kinds(signals):
        for passage in found.of(kind):
            parts += [f"# {kind}: {_described(passage)}", str(passage.condition)]
    return "\n".join(parts) + "\n"


def _kinds(signals: tuple[str, ...]) -> tuple[str, ...]:
    return (("span", "span_event") if "traces" in signals else ()) + (("log",) if "logs" in signals else ())


def _reasons(found: CollectorFilter, signals: tuple[str, ...]) -> Iterable[str]:
    yield "# Passed on:"
    for kind in _kinds(signals):
        what = {"span": "spans", "span_event": "spans with an event that is", "log": "log records"}[kind]
        yield f"#   {what}:"
        for number, passage in enumerate(found.of(kind), 1):
            yield f"#     {number}. {_described(passage)}"


def _described(passage: Passage) -> str:
    # The name of a rule is anybody's text; a comment ends with its line.
    text = "".join(character if character.isprintable() else "?" for character in passage.reason)
    return text if passage.exact else f"{text} (and some more: OTTL cannot tell exactly)"


def _mark_path() -> str:
    return str(Path("span", "attributes", MARK))


def _mark(found: CollectorFilter) -> Iterable[str]:
    yield "  transform/product_mark:"
    yield "    error_mode: ignore"
    yield "    trace_statements:"
    yield "      - context: spanevent"
    yield "        statements:"
    for passage in found.span_event:
        # One statement each: should a condition fail, it fails alone.
        yield f"          # {_described(passage)}"
        yield "          - |-"
        yield from _block(f"set({_mark_path()}, true) where {passage.condition}", 12)


def _drop(context: str, keep: Iterable[Expression], extra: str = "") -> Iterable[str]:
    """A condition that drops what none of `keep` holds for."""
    texts = [f"({one})" if isinstance(one, Joined) and one.how == "and" else str(one) for one in keep]
    yield f"      - context: {context}"
    yield "        conditions:"
    yield "          - |-"
    yield "            not ("
    yield from _block("\nor ".join([*texts, *([extra] if extra else [])]), 14)
    yield "            )"


def _block(text: str, indent: int) -> Iterable[str]:
    # `$` begins a variable for the Collector; two of them are one.
    for line in text.replace("$", "$$").split("\n"):
        yield f"{' ' * indent}{line}"
