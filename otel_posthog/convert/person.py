"""What may be a distinct id.

In a module of its own because the SDK edge asks it in the user's request: it must not load all of the converter there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from otel_posthog.convert.text import clean_text, cut_bytes, first_of
from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from otel_posthog.convert.values import Cleaner
    from otel_posthog.model import AttributeValue


def person_id(value: AttributeValue, cleaner: Cleaner | None = None) -> str:
    """`value` as a distinct id, "" where it is none or one of PostHog's illegal ones.

    Integers count, since user tables have them; a whole float is how JavaScript sends one. Captured headers are lists
    of one. Ids over PostHog's 200 bytes keep their beginning and get a digest of the whole: cutting alone would make
    one person of two.
    """
    if type(value) is str:
        text = value
    elif isinstance(value, bool) or value is None:
        return ""
    elif isinstance(value, str):
        text = str.__str__(value)
    elif isinstance(value, int):
        text = str(int.__int__(value)) if value.bit_length() <= 4096 else hex(value)
    elif isinstance(value, float):
        text = str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    elif isinstance(value, (list, tuple)):
        first = first_of(cast("object", value))
        return "" if isinstance(first, (list, tuple)) else person_id(first, cleaner)
    else:
        return ""
    text = clean_text(text).strip()
    if not text:
        return ""
    if text.lower() in posthog.ILLEGAL_DISTINCT_IDS:
        _note(cleaner, "illegal_distinct_id")
        return ""
    limit = posthog.MAX_DISTINCT_ID_BYTES
    if len(text) * 4 > limit and len(raw := text.encode()) > limit:
        from hashlib import blake2b  # no id is that long in most processes

        _note(cleaner, "cut_distinct_id")
        return f"{cut_bytes(text, limit - 17)}-{blake2b(raw, digest_size=8).hexdigest()}"
    return text


def claimed_id(value: AttributeValue, cleaner: Cleaner | None = None) -> str:
    """`value` from the wire (a header, baggage) as a distinct id, "" where it is none or not fit to name a person.

    An id of more than PostHog's 200 bytes, with control characters, or with what did not decode (all that did not looks
    alike) counts as absent: whoever sends one from outside is not believed.
    """
    text = first_of(value)
    if isinstance(text, str) and (
        not text.isprintable()
        or "\ufffd" in text
        or len(text.encode("utf-8", "replace")) > posthog.MAX_DISTINCT_ID_BYTES
    ):
        _note(cleaner, "illegal_distinct_id")
        return ""
    return person_id(value, cleaner)


def _note(cleaner: Cleaner | None, notice: str) -> None:
    if cleaner is not None:
        from otel_posthog.model import Notice

        cleaner.note(Notice(notice))
