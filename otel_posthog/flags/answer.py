"""What came of one question about a flag."""

from __future__ import annotations

from typing import Any, Final

from otel_posthog.model.frozen import frozen

FlagValue = str | bool
"""Key of the variant, or whether the flag is on."""

REMOTE: Final = "remote"
LOCAL: Final = "local"
OVERRIDE: Final = "override"
NONE: Final = "none"

REASONS: Final = {
    "off": "feature flags are off",
    "package": "the posthog package is not installed",
    "no_person": "nobody to ask for: no distinct id was given, and the context knows none",
    "failed": "PostHog could not be asked",
    "cooldown": "PostHog could not be asked a moment ago",
    "missing": "PostHog knows no such flag, or could not evaluate it",
    "misuse": "the key is no name of a flag",
}
"""Why there is no answer."""


@frozen
class Answer:
    """What came of one question.

    Args:
        key: The flag.
        value: Key of the variant, or whether it is on; `None` where there is no answer.
        payload: What the flag brings along, from its JSON; `None` for nothing.
        source: Who answered: `remote` (PostHog), `local` (its SDK in this process), `override`, or `none`.
        reason: PostHog's words for why it is that value, or why there is none (one of `REASONS`).
    """

    key: str
    value: FlagValue | None = None
    payload: Any = None
    source: str = NONE
    reason: str = ""

    @property
    def overridden(self) -> bool:
        """Whether `flags.override` gave it: nothing was asked, and nothing is counted."""
        return self.source == OVERRIDE
