"""Values of flags for one test."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from otel_posthog.flags.answer import OVERRIDE, Answer
from otel_posthog.flags.process import client


@contextmanager
def forcing() -> Generator[Callable[..., None]]:
    """Gives a function that forces values of flags for the whole process, until the block is over.

    The same as `flags.override(…, everywhere=True)`, but that it may be called in one task and ended in another, as
    fixtures of async tests are; and so it leaves no property on events.
    """
    forced: list[Mapping[str, Answer]] = []

    def force(flags: str | Mapping[str, str | bool], value: str | bool = True, *, payload: Any = None) -> None:
        """Forces values.

        Args:
            flags: The flag; or several with their values.
            value: A variant's key, or whether it is on.
            payload: What it brings along.
        """
        values: Mapping[str, str | bool] = {flags: value} if isinstance(flags, str) else flags
        answers = {str(key): Answer(str(key), said, payload, OVERRIDE, "overridden") for key, said in values.items()}
        forced.append(answers)
        client.everywhere.append(answers)

    try:
        yield force
    finally:
        # By identity: equal ones may be nested.
        client.everywhere[:] = [held for held in client.everywhere if not any(held is one for one in forced)]


__all__ = ["forcing"]
