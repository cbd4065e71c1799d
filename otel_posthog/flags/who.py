"""Whom a question about a flag is for: what was given, else what the context knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, cast

from otel_posthog.api.values import id_value, plain
from otel_posthog.context.ambient import NOTHING
from otel_posthog.context.properties import properties_in, properties_since_the_end
from otel_posthog.context.work import Work, apart, work_in
from otel_posthog.convert.person import person_id
from otel_posthog.convert.text import clean_text
from otel_posthog.convert.values import Cleaner
from otel_posthog.lane.internals import attributes_of, baggage_in, baggage_key
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.guard import Guard
from otel_posthog.semconv import otel, posthog

if TYPE_CHECKING:
    from otel_posthog.lane.emitter import Emitter

_LONGEST: Final = 8_192
"""Bytes of a text that flags are targeted by."""


@frozen
class Who:
    """Whom a question is for.

    Args:
        distinct_id: "" for nobody.
        identified: It is a person's own id, not a visitor's.
        groups: Group type -> key.
        person_properties: What is known of the person here; PostHog adds what it knows.
        group_properties: Group type -> what is known of the group here.
        here: It is the person of the context: what comes out holds for what the context does from now on.
        trace_id: Of the current span; 0 for none.
    """

    distinct_id: str
    identified: bool = True
    groups: Mapping[str, str] = field(default_factory=dict[str, str])
    person_properties: Mapping[str, Any] = field(default_factory=dict[str, Any])
    group_properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    here: bool = True
    trace_id: int = 0


def who(
    emitter: Emitter,
    distinct_id: object = None,
    groups: Mapping[str, Any] | None = None,
    person_properties: Mapping[str, Any] | None = None,
    group_properties: Mapping[str, Mapping[str, Any]] | None = None,
) -> Who:
    """Whom a question of the calling context is for.

    Args:
        emitter: Knows where identity is read.
        distinct_id: Who, in place of the context's person.
        groups: Above those of the context.
        person_properties: Above the super properties of the context.
        group_properties: By group type.
    """
    from opentelemetry import context, trace

    ctx = context.get_current()
    span = trace.get_current_span(ctx)
    trace_id = span.get_span_context().trace_id
    work = work_in(ctx, trace_id)
    ambient = work.ambient if work is not None else NOTHING
    guard = emitter.edge.guard

    found, identified = _person(emitter, work, span, ctx)
    asked = found
    if distinct_id is not None:
        asked = person_id(id_value(distinct_id))
        if not asked:
            # Text that is none is blank or a word like `null`; anything else may be somebody's data.
            shown = repr(distinct_id) if isinstance(distinct_id, str) else type(distinct_id).__name__
            guard.misused("distinct_id", "otel-posthog: flags were asked for %s, which is no distinct id", shown)
    known: dict[str, Any] = {**ambient.properties, **properties_in(ctx)}
    if asked != found and asked and emitter.outlives(asked):
        # A worker that a request happened to start asks for whoever it serves now.
        ambient, known = NOTHING, dict(properties_since_the_end(ctx))
    given = plain(person_properties, guard, "person_properties") if person_properties else None
    own = {str(kind): text for kind, key in _mapping(groups, "groups", guard).items() if (text := _group_key(key))}
    of_groups = _mapping(group_properties, "group_properties", guard)
    return Who(
        asked,
        identified=identified or (distinct_id is not None and asked != found),
        groups={**ambient.groups, **own},
        person_properties=_cleaned({**known, **(given or {})}),
        group_properties={
            str(kind): _cleaned(plain(values, guard, "group_properties") or {}) for kind, values in of_groups.items()
        },
        here=asked == found,
        trace_id=trace_id,
    )


def _mapping(value: object, what: str, guard: Guard) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return cast("Mapping[Any, Any]", value)
    if value is not None:
        guard.misused(what, "otel-posthog: %s of a question about a flag is a %s, and not a mapping", what, type(value))
    return {}


def _cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them: of a question with a NaN or raw bytes in it PostHog answers no flag at all."""
    found: dict[str, Any] = {}
    if values:
        Cleaner(_LONGEST).properties(values, found)
    return found


def _group_key(key: object) -> str:
    value = id_value(key)
    return "" if value is None else clean_text(str(value)).strip()


def _person(emitter: Emitter, work: Work | None, span: Any, ctx: Any) -> tuple[str, bool]:
    """(the context's person or visitor, whether it is a person)."""
    ambient = work.ambient if work is not None else NOTHING
    if ambient.distinct_id:
        return ambient.distinct_id, True
    if not ambient.nobody and not (work is not None and apart(work, span.get_span_context().trace_id)):
        attributes = attributes_of(span)
        stamps = emitter.edge.stamper.missing({}, attributes, baggage_in(ctx, baggage_key()))
        if stated := stamps.get(posthog.POSTHOG_DISTINCT_ID):
            return str(stated), True
        if not ambient.anonymous_id:
            return person_id(attributes.get(otel.ENDUSER_PSEUDO_ID)), False
    return ambient.anonymous_id, False
