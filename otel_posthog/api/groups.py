"""`group`: which company, team or project the work at hand is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from otel_posthog.api.capture import add, group_pair
from otel_posthog.api.marks import mark
from otel_posthog.api.people import update
from otel_posthog.api.process import process
from otel_posthog.semconv import posthog

_MAX_TYPES: Final = 20
"""Far beyond PostHog's five: a loop that takes keys for types must not fill the memory."""


def group(
    type: str,  # noqa: A002 - PostHog's word
    key: str | int | UUID,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - PostHog's word
) -> str | None:
    """Says which group the work at hand is for. Never raises, blocks or does I/O.

    From now on every event of this request, job or script has it in `$groups`, flags are evaluated for it, and the
    request's span is marked with it. One key for each type: a later call replaces it. PostHog keeps five types of a
    project.

    Args:
        type: Of the group, such as `company`; without a dot in it.
        key: Which one; the same key in every service and in the browser.
        set: Properties of the group to set (`$groupidentify`).

    Returns:
        The uuid of the update's event; `None` where nothing is to be set, or the gate is shut.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("group") if process.started else None
    try:
        from otel_posthog.context import current_work

        pair = group_pair(type, key, emitter)
        if pair is None:
            return None
        name, value = pair
        work = current_work()
        known = work.ambient.groups
        if name in known or len(known) < _MAX_TYPES:
            work.change(groups={name: value})
            mark({posthog.GROUPS + name: value}, work, emitter)
        else:
            emitter.edge.guard.misused(
                "group_types",
                "otel-posthog: one piece of work has groups of %d types already, and PostHog keeps five of a project: "
                'a type is a kind of group, such as "company", and the key says which one. The group is left out',
                _MAX_TYPES,
            )
        attributes: dict[str, Any] = {posthog.GROUPS + name: value}
        if set is not None:
            add(attributes, f"{posthog.GROUP_SET}{name}.", set, emitter, "set")
        return update(attributes, emitter, "group") if len(attributes) > 1 else None
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.group", error)
        return None
