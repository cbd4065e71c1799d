"""`capture_exception`: one `$exception`, however many others tell of the same object."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from otel_posthog.api.capture import add_groups, state
from otel_posthog.api.process import process
from otel_posthog.api.values import plain
from otel_posthog.lane.now import now_ns
from otel_posthog.semconv import posthog


def capture_exception(
    error: BaseException | None = None,
    properties: Mapping[str, Any] | None = None,
    *,
    distinct_id: str | int | UUID | None = None,
    groups: Mapping[str, str | int | UUID] | None = None,
) -> str | None:
    """Captures an exception that the app handles (`$exception`). Never raises, blocks or does I/O.

    One object is one issue: where spans, log records or the `posthog` SDK tell of it as well, this call speaks for all
    of them while they are under way, and is left out where it was captured before. Raised on and handled by nobody, it
    counts as unhandled.

    Args:
        error: The exception; the one that is being handled by default.
        properties: Of the event: name -> value.
        distinct_id: Whose it is, in place of the context's person.
        groups: Group type -> key, for this event.

    Returns:
        The uuid of its `$exception`, whoever captured it first; `None` where the gate is shut, or there is none.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("capture_exception") if process.started else None
    try:
        from otel_posthog.convert.ids import hashed_uuid
        from otel_posthog.lane.exceptions import captured_elsewhere, see

        live: Any = error if error is not None else sys.exc_info()[1]
        if isinstance(live, tuple):
            # As `sys.exc_info()` gives it, and other SDKs take it.
            live = cast("tuple[Any, ...]", live)[1] if len(cast("tuple[Any, ...]", live)) == 3 else None
        if not isinstance(live, BaseException):
            emitter.edge.guard.misused(
                "exception",
                "otel-posthog: capture_exception() takes an exception, or is called while one is handled, not %s",
                type(live).__name__,
            )
            return None
        before = captured_elsewhere(live)
        if before is not None:
            return before or None
        seen = see(live, deliberate=True)
        attributes: dict[str, Any] = {posthog.EVENT: posthog.EVENT_EXCEPTION}
        if distinct_id is not None:
            state(attributes, distinct_id, emitter)
        if groups is not None:
            add_groups(attributes, groups, emitter)
        own = plain(properties, emitter.edge.guard) if properties is not None else None
        taken = emitter.emit(
            posthog.EVENT_EXCEPTION,
            attributes,
            properties=own,
            time_ns=now_ns(),
            live=seen,
            severity=(17, "ERROR"),
        )
        # Made from the object's mark, so that it is the same one whichever carrier speaks in the end.
        return hashed_uuid("exception", seen.token) if taken else process.refused("capture_exception", emitter)
    except Exception as failure:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.capture_exception", failure)
        return None
