"""PostHog's SDK as we use it: it evaluates flags and sends no events.

Loaded with the first question: `import posthog` takes 150 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from posthog.client import Client
from posthog.feature_flag_evaluations import FeatureFlagEvaluations

from otel_posthog.config.flags import FlagsTarget
from otel_posthog.config.settings import FlagsConfig
from otel_posthog.observe.log import Complaints

Report = Callable[[dict[str, Any]], None]
"""Takes an event that the SDK would have sent."""

_SUBJECT: Final = 40
"""Characters that tell one message of the SDK from another one."""


class Sdk(Client):
    """A client whose events go to `report`, and which says whether a question reached PostHog.

    Args:
        target: Whom to ask.
        config: How long.
        report: Gets its events, in the thread of the question.
    """

    def __init__(self, target: FlagsTarget, config: FlagsConfig, report: Report) -> None:
        keys = (target.token.reveal(), target.secret_key.reveal())
        # Instead of the `posthog` logger: its level is the app's own affair, and a traceback for each question of an
        # outage would fill the log.
        self.log: Any = _Quiet(keys)
        self._last = threading.local()

        def before_send(message: dict[str, Any]) -> None:
            report(message)

        super().__init__(  # pyright: ignore[reportUnknownMemberType] - the SDK's parameters have no types
            target.token.reveal(),
            host=target.host,
            secret_key=target.secret_key.reveal() or None,
            before_send=before_send,
            send=False,
            # No thread and no exit hook for a queue that nothing enters.
            sync_mode=True,
            enable_local_evaluation=False,
            feature_flags_request_timeout_seconds=config.timeout,
            feature_flags_request_max_retries=0,
        )
        if target.secret_key:
            # Otherwise the first question would load the definitions in the caller's thread.
            self.feature_flags = []

    def ask(self, distinct_id: str, *, remotely: bool, **about: Any) -> tuple[FeatureFlagEvaluations, Exception | None]:
        """Evaluates flags for somebody.

        Args:
            distinct_id: Who.
            remotely: PostHog may be asked for what cannot be evaluated here.
            about: As for `evaluate_flags`.

        Returns:
            What was found, and why PostHog did not answer, where it was asked in vain.
        """
        self._last.error = None
        found = self.evaluate_flags(distinct_id, only_evaluate_locally=not remotely, **about)
        return found, self._last.error

    def _get_flags_decision(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._get_flags_decision(*args, **kwargs)
        except Exception as error:
            self._last.error = error  # the SDK swallows it, and answers as if there were no flags
            raise


class _Quiet:
    """The part of a logger that the SDK uses: warnings at most once a minute, without tracebacks and keys."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = tuple(key for key in keys if key)
        self._complaints = Complaints()

    def _say(self, message: object, *args: object, **_: object) -> None:
        try:
            text = str(message) % args if args else str(message)
        except (TypeError, ValueError):
            text = str(message)
        for key in self._keys:
            text = text.replace(key, "…")
        text = text.removeprefix("[FEATURE FLAGS] ")[:300]
        self._complaints.say(text[:_SUBJECT], "otel-posthog: feature flags: %s", text)

    warning = error = exception = critical = _say

    def debug(self, *_: object, **__: object) -> None:
        """Nobody reads it."""

    info = setLevel = debug  # noqa: N815 - a logger's name
