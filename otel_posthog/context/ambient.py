"""`Ambient`: what is known of one unit of work at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from opentelemetry import context

from otel_posthog.model.frozen import frozen

WORK: Final = context.create_key("otel-posthog-work")
"""Where a context keeps its unit of work, see `work.py`."""


@frozen
class Ambient:
    """What holds for a unit of work; replaced as a whole, never changed.

    Args:
        distinct_id: Who it is for; "" while nobody has been identified.
        anonymous_id: The stable id of a visitor who has not been identified; "" where none is known.
        claimed: The anonymous id is a client's claim that may be somebody's own: it names the visitor, and is never
            merged into who logs in.
        session_id: Browser session; "" where none is known.
        window_id: Browser window; "" where none is known.
        groups: Group type -> key.
        flags: Feature flag -> the value that it had for this work (a variant's key, or whether it is on).
        properties: Super properties that came from another service; those of a block win over them.
        nobody: Nobody on purpose: the person who was there has left (`reset`). What spans and baggage say of them
            does not count any more; events are the `anonymous_id`'s, which is a new one then.
    """

    distinct_id: str = ""
    anonymous_id: str = ""
    session_id: str = ""
    window_id: str = ""
    groups: Mapping[str, str] = field(default_factory=dict[str, str])
    flags: Mapping[str, str | bool] = field(default_factory=dict["str", "str | bool"])
    properties: Mapping[str, Any] = field(default_factory=dict[str, Any])
    nobody: bool = False
    claimed: bool = False


NOTHING = Ambient()
"""For work of which nothing is known."""
