"""Who vouches for an identity in baggage: HMAC-SHA256 over our members, with the time at which it was made.

Services that share a secret believe each other, and nobody else. The time is in the signature, so that one which was
seen somewhere is worth nothing after a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from otel_posthog.config.settings import Secret
from otel_posthog.context.baggage import MEMBERS

MEMBER: Final = "posthog.signature"
AHEAD: Final = 60
"""Seconds that another machine's clock may be ahead of ours."""
_VERSION: Final = "1"


def sign(members: Mapping[str, str], secret: Secret, now: float) -> str:
    """The value of `posthog.signature` for these members.

    Args:
        members: Ours among them are signed.
        secret: The shared one.
        now: Seconds since the Unix epoch.
    """
    moment = str(int(now))
    return f"{_VERSION}.{moment}.{_mac(members, secret, moment)}"


def signed_at(members: Mapping[str, Any], secrets: Sequence[Secret]) -> int | None:
    """When `members` were signed with one of the secrets, in seconds since the Unix epoch; `None` for never.

    Args:
        members: Of a baggage, from anybody.
        secrets: Several while they are rotated.
    """
    import hmac

    said: object = members.get(MEMBER)
    if not isinstance(said, str) or len(said) > 100 or not said.isascii():
        return None
    version, _, rest = said.partition(".")
    moment, _, mac = rest.partition(".")
    if version != _VERSION or not moment.isdigit() or len(moment) > 12:
        return None
    good = False
    for secret in secrets:
        # All of them, whichever it is: how long it takes says nothing.
        good |= hmac.compare_digest(_mac(members, secret, moment), mac)
    return int(moment) if good else None


def is_fresh(moment: int, now: float, max_age: float) -> bool:
    """Whether a signature of `moment` counts at `now`.

    Args:
        moment: When it was made, in seconds since the Unix epoch.
        now: In the same.
        max_age: Seconds for which it counts.
    """
    return now - max_age <= moment <= now + AHEAD


def _mac(members: Mapping[str, Any], secret: Secret, moment: str) -> str:
    import hmac
    from base64 import urlsafe_b64encode

    # Each with its length, so that no text can pass for the end of one member and the beginning of the next.
    said = [_VERSION, moment]
    for name in MEMBERS:
        value = members.get(name)
        said.append("-" if not isinstance(value, str) else f"{len(value)}:{value}")
    data = "\n".join(said).encode("utf-8", "surrogatepass")
    return urlsafe_b64encode(hmac.digest(secret.reveal().encode(), data, "sha256")).decode().rstrip("=")


__all__ = ["AHEAD", "MEMBER", "is_fresh", "sign", "signed_at"]
