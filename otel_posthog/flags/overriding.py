"""`override`: a flag has the value that is said, for a block; for tests, and for somebody who looks at a feature."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, cast

from opentelemetry import context

from otel_posthog.api.around import Around, Block
from otel_posthog.api.held import Held
from otel_posthog.assembly import resource_of_environment
from otel_posthog.context.properties import with_properties
from otel_posthog.flags.answer import OVERRIDE, Answer
from otel_posthog.flags.process import client

KEY: Final = context.create_key("otel-posthog-flag-overrides")
MARK: Final = "feature_flags_overridden"
"""Property of the events of such a block: keys of the flags, sorted."""

Overrides = Mapping[str, Answer]
_NONE: Final[Overrides] = {}


def override_of(key: str) -> Answer | None:
    """The answer that a block around us, or around the process, forces."""
    found = cast("Overrides", context.get_value(KEY) or _NONE).get(key)
    if found is None and client.everywhere:
        found = next((each[key] for each in reversed(client.everywhere) if key in each), None)
    return found


def overrides() -> Overrides:
    """All that hold here."""
    found: dict[str, Answer] = {}
    for each in client.everywhere:
        found.update(each)
    return {**found, **cast("Overrides", context.get_value(KEY) or _NONE)}


class _Forced(Held):
    """The overrides of one run."""

    def __init__(self, answers: Overrides, *, everywhere: bool) -> None:
        super().__init__(self._with_overrides)
        self._answers = answers
        self._everywhere = everywhere

    def _with_overrides(self, here: Any) -> Any:
        marked = with_properties({MARK: sorted({*overrides(), *self._answers})}, here)
        held = cast("Overrides", context.get_value(KEY) or _NONE)
        return context.set_value(KEY, {**held, **self._answers}, marked)

    def resume(self) -> None:
        super().resume()
        if self._everywhere:
            client.everywhere.append(self._answers)

    def suspend(self) -> None:
        if self._everywhere:
            # By identity: equal ones may be nested.
            for index in range(len(client.everywhere) - 1, -1, -1):
                if client.everywhere[index] is self._answers:
                    del client.everywhere[index]
                    break
        super().suspend()


class Override(Around[Block]):
    """See `override`."""

    def __init__(self, answers: Overrides, *, everywhere: bool) -> None:
        super().__init__()
        self._answers = answers
        self._everywhere = everywhere

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Block:  # noqa: ARG002 - of no interest here
        """The overrides for one run; none in production."""
        if _in_production():
            from otel_posthog.api.process import process

            process.guard.misused(
                "flag_override", "otel-posthog: flags.override does nothing in production (%s)", ENVIRONMENTS
            )
            return Block()
        return _Forced(dict(self._answers), everywhere=self._everywhere)


def override(
    flags: str | Mapping[str, str | bool], value: str | bool = True, *, payload: Any = None, everywhere: bool = False
) -> Override:
    """Values of your own for flags: `with flags.override("new-ui"):`, `async with …`, or as a decorator.

    It wins over everything, also where flags are off or PostHog cannot be asked. Nothing is asked, nothing is counted
    and no value is stamped: events of the block have the property `feature_flags_overridden` instead, so that nobody
    takes them for those of an experiment. In production, as `deployment.environment.name` of
    `OTEL_RESOURCE_ATTRIBUTES` has it, it does nothing, and says so once.

    Args:
        flags: The flag; or several with their values.
        value: A variant's key, or whether it is on.
        payload: What it brings along.
        everywhere: For the whole process, and not only for what this context calls: for a server in another thread.
    """
    values: Mapping[str, str | bool] = {flags: value} if isinstance(flags, str) else flags
    return Override(
        {str(key): Answer(str(key), said, payload, OVERRIDE, "overridden") for key, said in values.items()},
        everywhere=everywhere,
    )


ENVIRONMENTS: Final = "deployment.environment.name, deployment.environment"


def _in_production() -> bool:
    said = resource_of_environment(os.environ)
    environment = said.get("deployment.environment.name") or said.get("deployment.environment")
    return str(environment or "").strip().lower() in {"production", "prod"}
