"""`capture`: one product event."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from otel_posthog.api.process import process
from otel_posthog.lane.readable import normal_attributes
from otel_posthog.lane.uuids import uuid7
from otel_posthog.semconv import posthog


def capture(
    event: str,
    properties: Mapping[str, Any] | None = None,
    *,
    distinct_id: str | None = None,
    groups: Mapping[str, str] | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - PostHog's word
    set_once: Mapping[str, Any] | None = None,
    timestamp: datetime | None = None,
) -> str | None:
    """Captures a product event.

    Person, groups, session, super properties, flags, request and trace are those of the context that it is called in.

    Args:
        event: Its name.
        properties: Its properties.
        distinct_id: Whose it is, instead of the context's person.
        groups: Group type -> key, for this event; above those of the context.
        set: Person properties to set.
        set_once: Person properties to set where they are not set yet.
        timestamp: When it happened; now by default.

    Returns:
        The event's uuid; `None` where the gate is shut, or nothing was taken.
    """
    emitter = process.get()
    if emitter is None:
        return None
    try:
        moment = time.time_ns() if timestamp is None else int(timestamp.timestamp() * 1_000_000_000)
        uuid = uuid7(moment)
        attributes: dict[str, Any] = {posthog.EVENT: event, posthog.UUID: uuid}
        if distinct_id is not None:
            attributes[posthog.DISTINCT_ID] = distinct_id
        for prefix, values in (
            (posthog.GROUPS, groups),
            (posthog.SET, set),
            (posthog.SET_ONCE, set_once),
        ):
            if values:
                for name, value in normal_attributes(values).items():
                    attributes[prefix + name] = value
        taken = emitter.emit(
            event, attributes, properties=normal_attributes(properties) if properties else None, time_ns=moment
        )
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.capture", error)
        return None
    return uuid if taken else None
