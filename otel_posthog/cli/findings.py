"""What the doctor says: findings, each with what, why and the exact mend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        level: `ok`, `warn` (works, but not as one may think) or `problem` (exit code 1).
        check: Short name of the check.
        what: What was found, in one sentence.
        why: Why it matters; "" for `ok`.
        mend: Exactly what to do; "" for `ok`.
    """

    level: str
    check: str
    what: str
    why: str = ""
    mend: str = ""


def ok(check: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", check, what)


def warn(check: str, what: str, why: str, mend: str) -> Finding:
    """Works, but not as its owner may think."""
    return Finding("warn", check, what, why, mend)


def problem(check: str, what: str, why: str, mend: str) -> Finding:
    """Does not work."""
    return Finding("problem", check, what, why, mend)
