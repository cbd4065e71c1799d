"""`CaptureEvent`: the one output type of the converter, in PostHog's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from otel_posthog.model.frozen import frozen

JsonValue = Any
"""None, bool, int, finite float, str without lone surrogates, list or dict of these."""


@frozen
class CaptureEvent:
    """One event for PostHog's capture API; always valid to send.

    PostHog de-duplicates on (uuid, event, distinct_id, UTC day of the timestamp): all four are fixed here and
    survive every retry and replay.

    Args:
        event: Name, 1 to 200 bytes of UTF-8.
        distinct_id: Who, 1 to 200 bytes of UTF-8, never one of PostHog's illegal ids.
        uuid: Canonical lower-case uuid text.
        timestamp_ns: Nanoseconds since the Unix epoch, from the telemetry.
        properties: JSON-ready properties; `$set`, `$set_once`, `$unset`, `$groups`, `$session_id`, `$window_id` and
            `$process_person_profile` live in here, wire codecs lift what their version wants elsewhere.
        weight: About how many bytes it has as JSON, where its maker knows; 0 leaves it to be found out.
    """

    event: str
    distinct_id: str
    uuid: str
    timestamp_ns: int
    properties: Mapping[str, JsonValue]
    weight: int = field(default=0, compare=False, repr=False)
