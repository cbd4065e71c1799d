"""The shape of a project token, which is all that PostHog's edge checks (posthog-wire §1.4)."""

from __future__ import annotations

_MAX_BYTES = 64


def fault_of(token: str) -> str:
    """What is wrong with the shape of `token`, "" for nothing. A well-formed unknown token is accepted."""
    if not token:
        return "empty"
    if len(token.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        return "too_long"
    if not token.isascii():
        return "not_ascii"
    if "\0" in token:
        return "null_byte"
    if token.startswith("phx_"):
        return "personal_api_key"
    return ""


def masked(token: str) -> str:
    """Enough of `token` to tell two projects apart, never all of it."""
    shown = 7 if len(token) > 12 else min(2, len(token) // 2)
    return f"{token[:shown]}…"
