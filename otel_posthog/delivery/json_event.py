"""A capture event as JSON pieces that serve both versions of the capture API, and the spool.

v0 and v1 want the same members in different places, so an event is encoded once into pieces, and each version (and
each retry, and a fall-back from one version to the other) only joins them:

    HEAD    {"event":…,"uuid":…,"distinct_id":…,"timestamp":…
    BESIDE  ,"session_id":…,"window_id":…,"options":{…}     what v1 wants beside the properties
    LIFTED  ,"$session_id":…,"$lib":…                       the same as v0 wants it: among the properties
    REST    {…}                                             all other properties

    v1      HEAD BESIDE ,"properties": REST }
    v0      HEAD ,"properties":{"$ignore_sent_at":true LIFTED , REST }
    spool   {"event":…,"uuid":…,"distinct_id":…,"timestamp_ns":…,"properties":{LIFTED , REST }

For an ordinary event there is one call of the JSON encoder, which takes two thirds of the time that is left.
"""

from __future__ import annotations

import json
import re
import uuid as uuids
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from otel_posthog.delivery.encoding import Dumps, quoted, rfc3339, utf8
from otel_posthog.delivery.wire import USER_AGENT, Parcel
from otel_posthog.errors import PermanentError
from otel_posthog.model import CaptureEvent
from otel_posthog.version import __version__

MAX_EVENT_BYTES: Final = 1_000_000
"""PostHog's Kafka message cap: beyond it an event is answered 200 and discarded, so we refuse it ourselves."""

LIB: Final = USER_AGENT.partition("/")[0]

_LIB_PIECE: Final = f',"$lib":{json.dumps(LIB)},"$lib_version":{json.dumps(__version__)}'.encode()
_UUID: Final = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_CANONICAL: Final = re.compile(rf"{_UUID}(?:,{_UUID})*\Z")
# Skew correction would move the time of telemetry by the sender's clock error, and with it, near midnight, the UTC
# day that de-duplication hangs on. Every event of ours carries its own time.
_V0_ALWAYS: Final = b',"properties":{"$ignore_sent_at":true'
_V0_MORE: Final = len(_V0_ALWAYS) + 2
_V1_ALWAYS: Final = ',"options":{"disable_skew_correction":true'
_V1_ORDINARY: Final = f'{_V1_ALWAYS}}},"properties":'.encode()
_FALSE: Final = frozenset({"false", "0"})
_TRUE: Final = frozenset({"true", "1"})


def _as_bool(value: object) -> bool | None:
    """The server's own truthiness for options; `None` leaves the option out (a wrong type fails the whole batch)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value != 0
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _TRUE else False if text in _FALSE else None
    return None


def _as_str(value: object) -> str | None:
    return value if isinstance(value, str) else None


_OPTIONS: Final[tuple[tuple[str, str, Callable[[object], bool | str | None]], ...]] = (
    ("$cookieless_mode", "cookieless_mode", _as_bool),
    ("$process_person_profile", "process_person_profile", _as_bool),
    ("$product_tour_id", "product_tour_id", _as_str),
)


def check(event: CaptureEvent) -> str:
    """Refuses what would spoil a whole batch at the server.

    Returns:
        The uuid in canonical form, which answers have.

    Raises:
        PermanentError: No uuid, no name or nobody.
    """
    try:
        uuid = str(uuids.UUID(event.uuid))
    except (ValueError, AttributeError, TypeError):
        raise PermanentError("event without a valid uuid") from None
    if not event.event:
        raise PermanentError("event without a name")
    if not event.distinct_id:
        raise PermanentError("event without a distinct_id")
    return uuid


def encode_all(events: Sequence[CaptureEvent], dumps: Dumps, *, record: bool) -> list[Parcel]:
    """Encodes `events` into the pieces above, all of them or none.

    In one loop without calls of our own: what is not the JSON encoder's time is mostly theirs.

    Args:
        events: What to encode.
        dumps: JSON encoder.
        record: Also make the spool's records.

    Raises:
        PermanentError: Some event would spoil its batch, or is larger than PostHog takes.
        ValueError: Some event has no JSON form (or TypeError, RecursionError).
    """
    uuids = [event.uuid for event in events]
    if not _all_canonical(uuids):
        uuids = [check(event) for event in events]
    parcels: list[Parcel] = []
    quote, lib, version = quoted, LIB, __version__  # in this loop a global name is not free either
    second = clock = ""
    for event, uuid in zip(events, uuids, strict=True):
        name, who, time = event.event, event.distinct_id, event.timestamp_ns
        if not name or not who:
            check(event)
        # One conversion to decimal in place of four divisions; what is no such time is told by `rfc3339`.
        digits = str(time).zfill(19)
        if digits[:-9] != second:
            second, clock = digits[:-9], rfc3339(time)[:20]
        text = (
            f'{{"event":{quote(name)},"uuid":"{uuid}","distinct_id":{quote(who)},"timestamp":"{clock}{digits[-9:-3]}Z"'
        )
        try:
            head = text.encode()
        except UnicodeEncodeError:
            head = utf8(text)
        others = dict(event.properties)  # copied in C, less the few: a third of the cost of choosing key by key
        lifted = _LIB_PIECE
        # v1 takes the library from the request's header. Where the event came from another one, only the property can
        # say.
        if others.pop("$lib", None) != lib or others.pop("$lib_version", None) != version:
            others = dict(event.properties)
            lifted = b""
        beside = _V1_ORDINARY
        # Spelled out: a loop, or a set that looks at every property in turn, costs three times as much.
        if (
            "$process_person_profile" in others
            or "$session_id" in others
            or "$window_id" in others
            or "$cookieless_mode" in others
            or "$product_tour_id" in others
            or "$ignore_sent_at" in others
        ):
            beside, more = _lift(others, dumps)
            lifted += more
        rest = dumps(others)
        size = len(head) + len(rest) + len(beside) + len(lifted) + _V0_MORE
        if size > MAX_EVENT_BYTES:
            raise PermanentError(f"event of {size} bytes: PostHog discards what is over {MAX_EVENT_BYTES}")
        parcel = Parcel(uuid, (head, beside, rest, lifted), size)
        if record:
            start = text[: text.rindex(',"timestamp":"')]
            parcel.record = utf8(f'{start},"timestamp_ns":{time},"properties":{{') + _joined(lifted[1:], rest)
        parcels.append(parcel)
    return parcels


def _all_canonical(uuids: list[str]) -> bool:
    try:
        return not uuids or _CANONICAL.match(",".join(uuids)) is not None
    except TypeError:  # not even texts
        return False


def _lift(others: dict[str, Any], dumps: Dumps) -> tuple[bytes, bytes]:
    """Takes what v1 wants beside the properties out of `others`; gives it as v1 and as v0 want it."""
    beside = lifted = ""
    for key, name in (("$session_id", "session_id"), ("$window_id", "window_id")):
        if isinstance(others.get(key), str):  # what is not stays a property: v1 takes nothing else there
            text = quoted(others.pop(key))
            beside += f',"{name}":{text}'
            lifted += f',"{key}":{text}'
    beside += _V1_ALWAYS
    for key, name, coerce in _OPTIONS:
        if key in others:
            value = others.pop(key)
            lifted += f',"{key}":{dumps(value).decode()}'
            option = coerce(value)
            if option is not None:
                beside += f',"{name}":{dumps(option).decode()}'
    others.pop("$ignore_sent_at", None)
    return utf8(f'{beside}}},"properties":'), utf8(lifted)


def _joined(lifted: bytes, rest: bytes) -> bytes:
    """The end of an event whose properties have begun with `lifted`; what ends with a comma, or nothing, before it."""
    if len(rest) == 2:
        return lifted + b"}}"
    return b"%b%b%b}" % (lifted, b"," if lifted else b"", memoryview(rest)[1:])


def v0_batch(parcels: Iterable[Parcel]) -> bytes:
    """The elements of v0's `batch`."""
    return b",".join([parcel.parts[0] + _joined(_V0_ALWAYS + parcel.parts[3], parcel.parts[2]) for parcel in parcels])


def v1_batch(before: bytes, parcels: Iterable[Parcel], after: bytes) -> bytes:
    """The elements of v1's `batch`, between `before` and `after`; one join, since a body is long."""
    pieces = [before]
    for parcel in parcels:
        head, beside, rest, _ = parcel.parts
        pieces += (head, beside, rest, b"},")
    pieces[-1] = b"}"
    pieces.append(after)
    return b"".join(pieces)


def record_of(event: CaptureEvent, dumps: Dumps) -> bytes:
    """The spool's form of `event`, for wires that have no JSON of their own."""
    return dumps(
        {
            "event": event.event,
            "uuid": event.uuid,
            "distinct_id": event.distinct_id,
            "timestamp_ns": event.timestamp_ns,
            "properties": dict(event.properties),
        }
    )


def event_of(record: bytes) -> CaptureEvent:
    """The event in a spool record.

    Raises:
        ValueError: It is not one.
    """
    try:
        found = json.loads(record)
        return CaptureEvent(
            event=str(found["event"]),
            distinct_id=str(found["distinct_id"]),
            uuid=str(found["uuid"]),
            timestamp_ns=int(found["timestamp_ns"]),
            properties=dict(found["properties"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a capture event: {type(error).__name__}") from error
