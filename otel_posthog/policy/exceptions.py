"""Exceptions once: one `$exception` for one raised exception, whichever carriers brought it (DESIGN §5).

One failure reaches us several times: as the span event of every span that it passes through, as the framework's log
record, and perhaps through the `posthog` SDK. Three situations, three means:

1. **Live.** In process the SDK edge still holds the exception object. An object that was captured before says so
   (`LocalContext.already_captured`), and its further carriers are duplicates. Nothing is compared: three retries are
   three objects.
2. **Text in process.** A handled exception that was recorded on a span is text only when the span ends, long after
   the handler. Each live capture therefore leaves one *credit* in its trace; a text carrier that describes the same
   place consumes it and is a duplicate. One credit for one live capture: log + span event of one exception is one,
   three retries that were each logged and recorded are three. A text carrier without a credit is a capture itself.
3. **Gateway.** No object and no order. The converter made the uuid from (trace, type, innermost frame), so that the
   carriers of one exception have the same uuid in every worker; here a bounded set of the uuids that delivery took
   saves sending them again. The very carrier that was taken passes again when it comes again: somebody sends it a
   second time because the first came to nothing that he knows of (a Collector's retry, a record of the gateway's spool
   after a change of keys), and PostHog merges the two by their uuid.

The uuid of situation 3 would merge real retries in one trace also in process, where we know better. So the second
and later captures of one uuid in process get a uuid of their own, derived from the first and its number; the first
keeps the uuid that a gateway would have made.

Message and stack text are never compared: they differ between carriers of the same exception.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from otel_posthog.model import CaptureEvent, DropReason, JsonValue, Signal
from otel_posthog.policy.recent import Recent
from otel_posthog.semconv import posthog

Place = str
"""`file:line:function` of the innermost frame, "" where the carrier has no stack."""

_NO_DETAIL: Mapping[str, JsonValue] = {}


def exception_place(event: CaptureEvent) -> tuple[str, Place]:
    """The last component of the type, and the innermost frame, of the first (caught) exception in `event`.

    Of the file only the last path component counts: a live frame and a formatted traceback may spell the same file
    absolutely, relatively or shortened.
    """
    chain = event.properties.get("$exception_list")
    first = _mapping(chain[0]) if isinstance(chain, list) and chain else _NO_DETAIL
    kind = str(first.get("type") or "").rpartition(".")[2]
    frames = _mapping(first.get("stacktrace")).get("frames")
    if not isinstance(frames, Sequence) or isinstance(frames, str) or not frames:
        return kind, ""
    frame = _mapping(cast("Sequence[JsonValue]", frames)[-1])
    file = str(frame.get("abs_path") or frame.get("filename") or "").replace("\\", "/").rpartition("/")[2]
    return kind, f"{file}:{frame.get('lineno', '')}:{frame.get('function', '')}"


def _carrier(signal: Signal) -> int:
    """What tells one carrier from another one of the same exception."""
    return hash((signal.kind, signal.span_id, signal.index, signal.time_ns, signal.observed_time_ns))


def _is_live(signal: Signal) -> bool:
    """Whether the object itself was captured: by us, or by the `posthog` SDK, whose finished event this is."""
    local = signal.local
    return local is not None and (
        bool(local.exception) or signal.attributes.get(posthog.CARRIER) == posthog.CARRIER_LOG
    )


def _mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    return cast("Mapping[str, JsonValue]", value) if isinstance(value, Mapping) else _NO_DETAIL


class ExceptionsOnce:
    """Removes the further carriers of an exception that was captured.

    Args:
        capacity: Exceptions remembered at the most, for each of the three situations.
        window: Seconds that one is remembered.
    """

    events = frozenset({posthog.EVENT_EXCEPTION})
    reason = DropReason.DUPLICATE_EXCEPTION

    def __init__(self, *, capacity: int, window: float) -> None:
        # (trace id, type) -> places of live captures that no text carrier has claimed yet, oldest first.
        self._credits: Recent[tuple[str, str], list[Place]] = Recent(capacity, window)
        # uuid -> which carrier it was.
        self._taken: Recent[str, int] = Recent(capacity, window)
        self._occurrences: Recent[str, int] = Recent(capacity, window)

    def admit(self, signal: Signal, event: CaptureEvent, now: float) -> CaptureEvent | None:
        """`None` for a further carrier of a captured exception."""
        local = signal.local
        if local is None:
            taken = self._taken.get(event.uuid, now)
            return event if taken is None or taken == _carrier(signal) else None
        if local.already_captured:
            return None
        if not _is_live(signal) and self._claim(signal, event, now):
            return None
        return self._number(event, now)

    def commit(self, signal: Signal, event: CaptureEvent, now: float) -> None:
        """Leaves a credit for a live capture; remembers the uuid of a gateway's."""
        if signal.local is None:
            self._taken.put(event.uuid, _carrier(signal), now)
        elif _is_live(signal) and signal.trace_id:
            kind, place = exception_place(event)
            key = (signal.trace_id, kind)
            places = self._credits.get(key, now) or []
            # A hot loop that raises a million times in one trace keeps the newest few: memory is bounded, and at
            # worst a text carrier of an old one is captured again.
            self._credits.put(key, [*places[-_CREDITS_PER_TYPE + 1 :], place], now)

    def _claim(self, signal: Signal, event: CaptureEvent, now: float) -> bool:
        if not signal.trace_id:
            return False
        kind, place = exception_place(event)
        key = (signal.trace_id, kind)
        places = self._credits.get(key, now)
        if not places:
            return False
        # A carrier without a stack can only be told by its type.
        found = place or places[0]
        if found not in places:
            return False
        left = list(places)
        left.remove(found)
        if left:
            self._credits.put(key, left, now)
        else:
            self._credits.forget(key)
        return True

    def _number(self, event: CaptureEvent, now: float) -> CaptureEvent:
        before = self._occurrences.get(event.uuid, now) or 0
        # Counted here and not at commit: two threads that admit the same uuid before either commits must not end up
        # with one number, which PostHog would merge. A number that delivery then refuses is merely skipped.
        self._occurrences.put(event.uuid, before + 1, now)
        if not before:
            return event
        import uuid  # a second exception of the same place is rare: not worth an import at start

        return CaptureEvent(
            event=event.event,
            distinct_id=event.distinct_id,
            uuid=str(uuid.uuid5(uuid.UUID(event.uuid), str(before))),
            timestamp_ns=event.timestamp_ns,
            properties=event.properties,
        )


_CREDITS_PER_TYPE = 64
