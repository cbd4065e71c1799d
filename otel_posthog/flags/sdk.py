"""PostHog's SDK as we use it: it evaluates flags, sends no events, and keeps nobody waiting.

Loaded with the first question: `import posthog` takes 150 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from posthog.client import Client
from posthog.feature_flag_evaluations import FeatureFlagEvaluations

from otel_posthog.config.flags import FlagsTarget
from otel_posthog.config.settings import FlagsConfig
from otel_posthog.flags.breaker import Breaker
from otel_posthog.observe.log import Complaints

if TYPE_CHECKING:
    from otel_posthog.flags.trusting import Trusting

Report = Callable[[dict[str, Any]], None]
"""Takes an event that the SDK would have sent."""

_MAX_WAITING: Final = 32
"""Questions on their way at once: names that cannot be resolved hold threads for longer than anybody waits."""
_REFUSED: Final = frozenset({400, 413, 422})
"""What PostHog answers to a question that is wrong by itself."""
_SUBJECT: Final = 40
"""Characters that tell one message of the SDK from another one."""


class CoolingDownError(Exception):
    """PostHog is left alone for a while."""


class Sdk(Client):
    """A client whose events go to `report`, and which says whether a question reached PostHog.

    Args:
        target: Whom to ask.
        config: How long.
        report: Gets its events, in the thread of the question.
        breaker: Says whether PostHog may be asked now, and hears what came of it.
    """

    def __init__(self, target: FlagsTarget, config: FlagsConfig, report: Report, breaker: Breaker) -> None:
        keys = (target.token.reveal(), target.secret_key.reveal())
        # Instead of the `posthog` logger: its level is the app's own affair, and a traceback for each question of an
        # outage would fill the log.
        self.log: Any = _Quiet(keys)
        self._last = threading.local()
        self._breaker = breaker
        self._patience = config.timeout
        self._room = threading.Semaphore(_MAX_WAITING)

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
        self._trusting: Trusting | None = None
        if target.ca_file or target.client_cert:
            from otel_posthog.flags.trusting import Trusting

            self._trusting = Trusting(target)
        if target.secret_key:
            # Otherwise the first question would load the definitions in the caller's thread.
            self.feature_flags = []

    def ask(self, distinct_id: str, **about: Any) -> tuple[FeatureFlagEvaluations, Exception | None]:
        """Evaluates flags for somebody.

        Args:
            distinct_id: Who.
            about: As for `evaluate_flags`.

        Returns:
            What was found, and why PostHog did not answer, where it was asked in vain.
        """
        self._last.error = None
        self._trust()
        found = self.evaluate_flags(distinct_id, **about)
        return found, self._last.error

    @property
    def complained(self) -> bool:
        """Whether the SDK has had anything to warn about so far."""
        return self.log.spoke

    def load_feature_flags(self) -> None:
        """As the SDK's, with our certificates."""
        self._trust()
        super().load_feature_flags()

    def put_back(self) -> None:
        """No further question will come: the SDK's sessions are what they were."""
        if self._trusting is not None:
            self._trusting.undo()

    def _trust(self) -> None:
        if self._trusting is not None:
            self._trusting.ensure()

    def _get_flags_decision(self, *args: Any, **kwargs: Any) -> Any:
        # Every question to PostHog comes this way, whichever method of the SDK asks it.
        try:
            if not self._breaker.allows():
                raise CoolingDownError("PostHog is left alone for a moment after a failure")
            try:
                answer = self._in_time(lambda: super(Sdk, self)._get_flags_decision(*args, **kwargs))
            except Exception as error:
                self._breaker.failed(doubtful=getattr(error, "status", None) in _REFUSED)
                raise
        except Exception as error:
            self._last.error = error  # the SDK swallows it, and answers as if there were no flags
            raise
        self._breaker.succeeded()
        return answer

    def _in_time(self, question: Callable[[], Any]) -> Any:
        """`question()` within the time of the settings, whatever holds it up.

        The SDK's own limit is for a connection and for each piece of an answer: a name that cannot be resolved, or an
        answer that drips, would take as long as it likes.
        """
        room = self._room
        if not room.acquire(blocking=False):
            raise TimeoutError(f"{_MAX_WAITING} questions wait already")
        answers: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put((question(), None))
            except Exception as error:  # noqa: BLE001 - raised by whoever waits
                answers.put((None, error))
            finally:
                room.release()

        # A daemon: the end of the process does not wait for it.
        thread = threading.Thread(
            target=copy_context().run, args=(ask,), name="otel-posthog-flag-question", daemon=True
        )
        try:
            thread.start()
        except BaseException:
            room.release()
            raise
        try:
            answer, error = answers.get(timeout=self._patience)
        except Empty:
            raise TimeoutError(f"no answer within {self._patience:g} s") from None
        if error is not None:
            raise error
        return answer

    def after_fork(self) -> None:
        """To be called in the child of a fork, where nobody waits."""
        self._room = threading.Semaphore(_MAX_WAITING)
        self._last = threading.local()


class _Quiet:
    """The part of a logger that the SDK uses: warnings at most once a minute, without tracebacks and keys."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = tuple(key for key in keys if key)
        self._complaints = Complaints()
        self.spoke = False

    def _say(self, message: object, *args: object, **_: object) -> None:
        self.spoke = True
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
