"""What holds for the work at hand: its person, groups, session, flags, and the super properties of the block it is in.

Two lifetimes, so two places in the OpenTelemetry context:

- `Work` is one unit of work: a request, a job, a message, a script's run. What is learnt in its depths (who logged in,
  which group, which flag said what) holds for all of it, also for what encloses the place where it was learnt. So it is
  an object that is shared by reference, and replaces its `Ambient` as a whole.
- Super properties hold for the block that they enclose, and for nothing else. So they are an immutable mapping of the
  context itself, and end with it.

Both are followed wherever the context goes: into coroutines and tasks by themselves, into threads by
`opentelemetry-instrumentation-threading`, into other services as baggage.
"""

from __future__ import annotations

from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.properties import attach_properties, properties_in, with_properties
from otel_posthog.context.traces import traces
from otel_posthog.context.work import (
    Work,
    apart,
    current_work,
    new_work,
    root_started,
    set_apart,
    work_in,
    work_of,
    working,
)

__all__ = [
    "NOTHING",
    "Ambient",
    "Work",
    "apart",
    "attach_properties",
    "current_work",
    "new_work",
    "properties_in",
    "root_started",
    "set_apart",
    "traces",
    "with_properties",
    "work_in",
    "work_of",
    "working",
]
