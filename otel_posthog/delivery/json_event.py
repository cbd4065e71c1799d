"""A capture event as JSON pieces that serve both versions of the capture API, and the spool.

v0 and v1 want the same members in different places, so an event is encoded once into pieces, and each version (and
each retry, and a fall-back from one version to the other) only joins them:

    HEAD  "event":…,"uuid":…,"distinct_id":…
    TIME  "timestamp":…
    V0    lifted members as v0 wants them among the properties
    V1A   lifted members as v1 wants them beside the properties ("session_id", "window_id", "options")
    V1P   lifted members that v1 wants among the properties after all
    REST  all other properties, without braces

    v0    {HEAD,TIME,"properties":{V0,REST}}
    v1    {HEAD,TIME,V1A,"properties":{V1P,REST}}
    spool {HEAD,"timestamp_ns":…,"properties":{V0 without $ignore_sent_at,REST}}
"""

from __future__ import annotations

import json
import re
import uuid as uuids
from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_posthog.delivery.encoding import Dumps, rfc3339
from otel_posthog.delivery.wire import USER_AGENT, Parcel
from otel_posthog.errors import PermanentError
from otel_posthog.model import CaptureEvent
from otel_posthog.version import __version__

MAX_EVENT_BYTES: Final = 1_000_000
"""PostHog's Kafka message cap: beyond it an event is answered 200 and discarded, so we refuse it ourselves."""

LIB: Final = USER_AGENT.partition("/")[0]

_LIFTED_KEYS: Final = (
    "$session_id",
    "$window_id",
    "$process_person_profile",
    "$cookieless_mode",
    "$product_tour_id",
    "$ignore_sent_at",
    "$lib",
    "$lib_version",
)
_LIFTED: Final = frozenset(_LIFTED_KEYS)
_LIB_KEYS: Final = ["$lib", "$lib_version"]
_LIB_PIECE: Final = json.dumps({"$lib": LIB, "$lib_version": __version__}, separators=(",", ":")).encode()[1:-1]
_CANONICAL: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
# Skew correction would move the time of telemetry by the sender's clock error, and with it, near midnight, the UTC
# day that de-duplication hangs on. Every event of ours carries its own time.
_V0_ALWAYS: Final = b'"$ignore_sent_at":true'
_V1_OPTIONS: Final = b'"options":{"disable_skew_correction":true}'
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
        The uuid in the form that answers have it in.

    Raises:
        PermanentError: No uuid, no name or nobody.
    """
    # The canonical form, at a fifth of the cost of parsing it; the other spellings of a uuid are rare.
    uuid = event.uuid
    try:
        if _CANONICAL.match(uuid) is None:
            uuid = str(uuids.UUID(uuid))
    except (ValueError, AttributeError, TypeError):
        raise PermanentError("event without a valid uuid") from None
    if not event.event:
        raise PermanentError("event without a name")
    if not event.distinct_id:
        raise PermanentError("event without a distinct_id")
    return uuid


def encode(event: CaptureEvent, dumps: Dumps, *, record: bool) -> Parcel:
    """Encodes `event` into the pieces above.

    Args:
        event: What to encode.
        dumps: JSON encoder.
        record: Also fill in the spool's form.

    Raises:
        PermanentError: The server can never take it.
        ValueError: It has no JSON form (or TypeError, RecursionError).
    """
    uuid = check(event)
    head = b'"event":%b,"uuid":"%b","distinct_id":%b' % (dumps(event.event), uuid.encode(), dumps(event.distinct_id))
    time = b'"timestamp":"%s"' % rfc3339(event.timestamp_ns).encode()
    properties = event.properties
    special = [key for key in _LIFTED_KEYS if key in properties]
    others = dict(properties)  # copied in C, less the few: a third of the cost of choosing key by key
    for key in special:
        del others[key]
    rest = dumps(others)[1:-1]
    if not special:
        lifted = v1_beside = v1_within = b""
    elif special == _LIB_KEYS and properties["$lib"] == LIB and properties["$lib_version"] == __version__:
        # Nearly every event of ours: three encodings less.
        lifted, v1_beside, v1_within = _LIB_PIECE, b"", b""
    else:
        lifted, v1_beside, v1_within = _lift(properties, dumps)
    v0 = b"%b,%b" % (_V0_ALWAYS, lifted) if lifted else _V0_ALWAYS
    parts = (head, time, v0, v1_beside or _V1_OPTIONS, v1_within, rest)
    size = len(head) + len(time) + len(rest) + max(len(v0), len(v1_beside) + len(v1_within)) + 48
    if size > MAX_EVENT_BYTES:
        raise PermanentError(f"event of {size} bytes: PostHog discards what is over {MAX_EVENT_BYTES}")
    return Parcel(
        uuid=uuid,
        parts=parts,
        size=size,
        record=_record(head, event.timestamp_ns, lifted, rest) if record else b"",
    )


def _lift(properties: Mapping[str, Any], dumps: Dumps) -> tuple[bytes, bytes, bytes]:
    """What v0 wants among the properties; what v1 wants beside them, and still among them."""
    lifted = {key: properties[key] for key in properties if key in _LIFTED and key != "$ignore_sent_at"}
    beside: dict[str, Any] = {}
    within: dict[str, Any] = {}
    for key, name in (("$session_id", "session_id"), ("$window_id", "window_id")):
        value = lifted.get(key)
        if isinstance(value, str):
            beside[name] = value
        elif value is not None:
            within[key] = value
    options: dict[str, Any] = {"disable_skew_correction": True}
    for key, name, coerce in _OPTIONS:
        option = coerce(lifted.get(key))
        if option is not None:
            options[name] = option
    beside["options"] = options
    # v1 takes the library from the request's header. Where the event came from another one, only the property can say.
    if (lifted.get("$lib", LIB), lifted.get("$lib_version", __version__)) != (LIB, __version__):
        within.update((key, lifted[key]) for key in ("$lib", "$lib_version") if key in lifted)
    return dumps(lifted)[1:-1], dumps(beside)[1:-1], dumps(within)[1:-1]


def v0_event(parcel: Parcel) -> bytes:
    """The event as one element of v0's `batch`."""
    head, time, v0, _, _, rest = parcel.parts
    return b'{%b,%b,"properties":{%b%b%b}}' % (head, time, v0, b"," if rest else b"", rest)


def v1_event(parcel: Parcel) -> bytes:
    """The event as one element of v1's `batch`."""
    head, time, _, beside, within, rest = parcel.parts
    comma = b"," if within and rest else b""
    return b'{%b,%b,%b,"properties":{%b%b%b}}' % (head, time, beside, within, comma, rest)


def _record(head: bytes, timestamp_ns: int, lifted: bytes, rest: bytes) -> bytes:
    comma = b"," if lifted and rest else b""
    return b'{%b,"timestamp_ns":%d,"properties":{%b%b%b}}' % (head, timestamp_ns, lifted, comma, rest)


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
