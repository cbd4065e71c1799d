"""What a protocol rule says when it refuses a whole request."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - a refusal is an answer of the protocol, not an error of ours
    """One request is refused as a whole.

    Args:
        status: HTTP status of the answer.
        reason: Short stable tag, counted in the statistics, e.g. `empty_batch`.
        text: What the answer says, as PostHog words it.
        detail: What the developer should know beyond PostHog's words; shown on the page, never a token.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, reason: str, text: str, *, detail: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.text = text
        self.detail = detail or text
        self.headers: dict[str, str] = dict(headers or {})
        super().__init__(f"{status} {reason}: {self.detail}")
