"""`Match`: what a rule said about one signal, with every template already filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from otel_posthog.model import AttributeValue
from otel_posthog.model.frozen import frozen


@frozen
class Match:
    """The outcome of the first rule that matched a signal; plain values, nothing left to look up.

    Args:
        rule: Name of the rule.
        drop: The rule says: never an event.
        on: `end` (default) or `start`: at which end of a span the rule fires.
        event: Event name; "" where the rule only updates people or groups.
        properties: Event properties, attribute types kept.
        distinct_id: Who, "" to leave it to the signal's identity.
        set: Person properties to set.
        set_once: Person properties to set if absent.
        unset: Person properties to remove.
        groups: Group type -> key on this event.
        group_set: Group type -> group properties (the key is taken from `groups` or the signal's own groups).
        alias: Another id of the same person; "" for none.
        anon_distinct_id: The anonymous id that this person had; "" for none.
    """

    rule: str
    drop: bool = False
    on: str = "end"
    event: str = ""
    properties: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    distinct_id: str = ""
    set: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    set_once: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    unset: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict[str, str])
    group_set: Mapping[str, Mapping[str, AttributeValue]] = field(
        default_factory=dict[str, Mapping[str, AttributeValue]]
    )
    alias: str = ""
    anon_distinct_id: str = ""
