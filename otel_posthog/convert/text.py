"""Text as every part of the converter wants it.

In a module of its own because the SDK edge checks ids in the user's request: it must not load all of the converter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast


def clean_text(text: str) -> str:
    """`text` as valid Unicode without NUL; surrogate pairs are joined, lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    try:
        text.encode()
    except UnicodeEncodeError:  # only lone surrogates have no UTF-8
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\x00", "\ufffd")


def without_credentials(text: str) -> str:
    """`text` with `***` for user and password in each URL: drivers put the whole DSN into their messages."""
    if "://" not in text or "@" not in text:
        return text
    import re  # hardly any text has one

    # As PostHog's SDK does it for variables; the bounded scheme keeps it linear.
    return re.sub(r"([a-zA-Z][a-zA-Z0-9+.\-]{0,30}://)(?=[^/@\s]*:)[^/\s]*@", r"\1***@", text)


def cut_bytes(text: str, limit: int) -> str:
    """The longest beginning of valid `text` that has at most `limit` UTF-8 bytes."""
    if len(text) * 4 <= limit:
        return text
    raw = text.encode()
    return text if len(raw) <= limit else raw[: max(limit, 0)].decode("utf-8", "ignore")


def first_of(value: object) -> object:
    """The first entry of a list, `None` of an empty one, anything else itself: captured headers are lists of one."""
    if isinstance(value, (list, tuple)):
        entries = cast("Sequence[object]", value)
        return entries[0] if entries else None
    return value
