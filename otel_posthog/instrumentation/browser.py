"""What a browser says of itself: posthog-js's headers, and its cookie where they are absent.

posthog-js sends `x-posthog-distinct-id` and `x-posthog-session-id` where it was told to (`tracing_headers`), and keeps
both in the cookie `ph_<project key>_posthog`, whose value is JSON:

    {"distinct_id": "0199…", "$user_state": "anonymous", "$sesid": [<last activity, ms>, "<session>", <start, ms>], …}

All of it is a client's claim: it names a visitor, never somebody who is logged in.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote

from otel_posthog.convert.person import claimed_id

HEADERS: Final = ("x-posthog-distinct-id", "x-posthog-session-id", "x-posthog-window-id")
WSGI_NAMES: Final = tuple(f"HTTP_{name.upper().replace('-', '_')}" for name in HEADERS)
"""The same in the environment of a WSGI request."""

_COOKIE: Final = re.compile(r"(?:^|;)\s*ph_([^=;\s]+)_posthog=([^;]*)")
_OPTED_OUT: Final = re.compile(r"(?:^|;)\s*__ph_opt_in_out_[^=;\s]+=0\s*(?:;|$)")
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_MAX_COOKIE: Final = 16 * 1024
_IDLE: Final = 30 * 60
"""Seconds after which posthog-js begins a new session."""


class Claim(NamedTuple):
    """What a browser says.

    Args:
        distinct_id: Who it is to posthog-js; "" for nothing.
        session_id: Its session.
        window_id: Its window.
        identified: The cookie says that this id is a person's, and no anonymous one.
    """

    distinct_id: str = ""
    session_id: str = ""
    window_id: str = ""
    identified: bool = False

    @property
    def anonymous_id(self) -> str:
        """The id where it is one that posthog-js makes for visitors: the only kind that may become somebody's."""
        return self.distinct_id if not self.identified and _UUID7.match(self.distinct_id.lower()) else ""


NOTHING: Final = Claim()


def claim_of(headers: Sequence[str | None], cookies: str | None, *, project_key: str = "") -> Claim:
    """What a request claims.

    Args:
        headers: The values of `HEADERS`.
        cookies: The header `cookie`.
        project_key: The project's key where it is known, to tell its cookie from those of others.
    """
    said, session, window = headers
    if said or session:
        return Claim(claimed_id(said) if said else "", claimed_id(session) if session else "", claimed_id(window))
    if cookies and "_posthog=" in cookies:
        return _cookie(cookies, project_key)
    return NOTHING


def _cookie(cookies: str, project_key: str) -> Claim:
    if _OPTED_OUT.search(cookies):
        return NOTHING
    found = {name: value for name, value in _COOKIE.findall(cookies) if len(value) <= _MAX_COOKIE}
    # posthog-js spells these three otherwise in the name of a cookie.
    name = project_key.replace("+", "PL").replace("/", "SL").replace("=", "EQ")
    value = found.get(name)
    if value is None and len(found) == 1 and not name:
        value = next(iter(found.values()))
    if not value:
        return NOTHING
    try:
        data: Any = json.loads(unquote(value))
    except (ValueError, RecursionError):
        return NOTHING
    if not isinstance(data, dict):
        return NOTHING
    kept = cast("dict[str, Any]", data)
    said: Any = kept.get("distinct_id")
    return Claim(
        claimed_id(said) if isinstance(said, str) else "",
        _session(kept.get("$sesid")),
        identified=kept.get("$user_state") == "identified",
    )


def _session(said: Any) -> str:
    """The session, where posthog-js would go on with it."""
    if not isinstance(said, list) or len(cast("list[Any]", said)) < 2:
        return ""
    last, session = cast("list[Any]", said)[:2]
    if not isinstance(last, (int, float)) or not isinstance(session, str) or last / 1000 < time.time() - _IDLE:
        return ""
    return claimed_id(session)
