"""Events, people and groups: `track_event`, `identify_user`, `group_identify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from otel_posthog.api.capture import capture
from otel_posthog.api.groups import group
from otel_posthog.api.people import identify, set_person
from otel_posthog.api.process import process
from otel_posthog.facades.whose import id_of


def track_event(user: Any, event: str, properties: Mapping[str, Any] | None = None) -> str | None:
    """Captures an event of a user. Never raises, blocks or does I/O; `properties` stays as it is.

    Args:
        user: A user object or an id; `None` for the person of the context, else nobody: not a new person per call.
        event: Its name.
        properties: Name -> value.

    Returns:
        As `otel_posthog.capture`.
    """
    return capture(event, properties, distinct_id=id_of(user))


def identify_user(user: Any, properties: Mapping[str, Any] | None = None) -> str | None:
    """Sets properties of a user, and says that the work at hand is theirs. Never raises, blocks or does I/O.

    Where the work is somebody else's already, as when an admin creates an account, it stays theirs: such helpers are
    called for whoever is at hand, and the first one is who has logged in.

    Args:
        user: A user object or an id. An anonymous user is nobody, and nothing is done.
        properties: Name -> value, or `{"$set": {…}, "$set_once": {…}}`.

    Returns:
        As `otel_posthog.identify`.
    """
    who = id_of(user)
    if who is None:
        return None
    return set_person(properties, distinct_id=who) if _is_anothers(who) else identify(who, properties)


def group_identify(
    group_type: str, group_key: str | int | UUID, properties: Mapping[str, Any] | None = None
) -> str | None:
    """Sets properties of a group, and says that the work at hand is for it. Never raises, blocks or does I/O.

    From now on events carry the group: to identify a group alone links nothing.

    Args:
        group_type: Such as `company`; without a dot in it.
        group_key: Which one.
        properties: Name -> value. PostHog overwrites: a list does not grow.

    Returns:
        As `otel_posthog.group`.
    """
    return group(group_type, group_key, set=properties)


def _is_anothers(who: Any) -> bool:
    """Whether the work at hand is known to be for somebody else."""
    emitter = process.get()
    if emitter is None:
        return False
    try:
        from opentelemetry import context, trace

        from otel_posthog.api.values import id_value
        from otel_posthog.context import work_in
        from otel_posthog.convert.person import person_id

        here = context.get_current()
        work = work_in(here, trace.get_current_span(here).get_span_context().trace_id)
        return work is not None and work.ambient.distinct_id not in ("", person_id(id_value(who)))
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("facades.identify_user", error)
        return False
