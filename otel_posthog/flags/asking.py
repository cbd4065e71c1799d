"""`Asking`: questions to PostHog, within bounds.

- One request asks once: what was found is kept for the trace, so that ten checks in a template cost one question, and
  all see one state. A trace that goes on asks again after `KEPT` seconds; without a trace nothing is kept.
- A failure opens the breaker (`breaker.py`); until it closes, what cannot be evaluated here has no answer.
- With a secret key definitions are evaluated in the process, and PostHog is asked for what that leaves open.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from otel_posthog.config.flags import FlagsTarget
from otel_posthog.config.settings import FlagsConfig
from otel_posthog.flags.answer import LOCAL, REMOTE, Answer, FlagValue
from otel_posthog.flags.breaker import Breaker
from otel_posthog.flags.definitions import Definitions
from otel_posthog.flags.who import Who
from otel_posthog.lane.edge import suppressed

if TYPE_CHECKING:
    from posthog.feature_flag_evaluations import FeatureFlagEvaluations

KEPT: Final = 10.0
"""Seconds that one trace sees what was found, at the most."""
_CAPACITY: Final = 1_000
"""Findings kept, over all traces."""


class Found:
    """What one question found.

    Args:
        snapshot: The SDK's.
        failed: Why PostHog did not answer, where it was to be asked: `failed` or `cooldown`; "" otherwise.
    """

    __slots__ = ("failed", "snapshot")

    def __init__(self, snapshot: FeatureFlagEvaluations, failed: str) -> None:
        self.snapshot = snapshot
        self.failed = failed

    def answer(self, key: str, *, counts: bool) -> Answer:
        """What it says about one flag.

        Args:
            key: The flag.
            counts: Whether this is somebody being given a value, which PostHog is told.
        """
        snapshot = self.snapshot
        known = key in snapshot.keys
        if not known and self.failed:
            return Answer(key, reason=self.failed)
        # A flag that PostHog does not know is told, too: that is how typing errors are found.
        value = snapshot.get_flag(key, send_feature_flag_events=counts)
        if value is None:
            return Answer(key, reason="missing")
        # Nothing public says who evaluated it and why: where this is not there, that alone is not known.
        record = getattr(snapshot, "_flags", {}).get(key)
        local = bool(getattr(record, "locally_evaluated", False))
        reason = str(getattr(record, "reason", None) or "")
        return Answer(key, value, snapshot.get_flag_payload(key), LOCAL if local else REMOTE, reason)

    def values(self) -> dict[str, FlagValue]:
        """Every flag that has a value; nobody is told."""
        snapshot = self.snapshot
        found = {key: snapshot.get_flag(key, send_feature_flag_events=False) for key in snapshot.keys}
        return {key: value for key, value in found.items() if value is not None}

    def payloads(self) -> dict[str, Any]:
        """The payloads, of those that have one."""
        found = {key: self.snapshot.get_flag_payload(key) for key in self.snapshot.keys}
        return {key: payload for key, payload in found.items() if payload is not None}


class Asking:
    """Asks PostHog's SDK. Safe in any thread, and after a fork.

    Args:
        target: Whom to ask.
        config: How long, how often.
        report: Gets what the SDK would send.
        wanted: Whether there is still anybody to ask for.
        monotonic: Seconds that never go back; injected by tests.

    Raises:
        ModuleNotFoundError: The `posthog` package is not installed.
    """

    def __init__(
        self,
        target: FlagsTarget,
        config: FlagsConfig,
        report: Callable[[dict[str, Any]], None],
        *,
        wanted: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        from otel_posthog.flags.sdk import CoolingDownError, Sdk

        self._breaker = Breaker(longest=config.cooldown, trial=2 * config.timeout, monotonic=monotonic)
        self.sdk = Sdk(target, config, report, self._breaker)
        self._cooling: type[Exception] = CoolingDownError
        self._config = config
        self._monotonic = monotonic
        self._definitions: Definitions | None = None
        if target.secret_key:
            self._definitions = Definitions(
                self.sdk.load_feature_flags, interval=config.poll_interval, around=suppressed, wanted=wanted
            )
        # Re-entrant: a signal handler or a `__del__` may call while a call of its own thread is in here.
        self._lock = threading.RLock()
        self._kept: OrderedDict[object, tuple[float, Found]] = OrderedDict()

    def find(self, who: Who, key: str | None = None) -> Found:
        """What holds for somebody.

        Args:
            who: With a distinct id.
            key: The flag that is asked for; all where `None`.
        """
        if self._definitions is not None:
            self._definitions.ensure(self._config.timeout)
        # Evaluating one flag is cheaper than all, but asking for one is no cheaper than asking for all: the next check
        # of the same request is then answered already.
        alone = key is not None and (self._definitions is not None or not who.trace_id)
        scope = key if alone else None
        place = (who.trace_id, _key(who), scope) if who.trace_id else None
        if place is not None and (kept := self._recall(place)) is not None:
            return kept
        with suppressed():
            snapshot, error = self.sdk.ask(
                who.distinct_id,
                groups=dict(who.groups),
                person_properties=dict(who.person_properties),
                group_properties={kind: dict(values) for kind, values in who.group_properties.items()},
                flag_keys=[scope] if scope is not None else None,
            )
        if error is not None:
            return Found(snapshot, "cooldown" if isinstance(error, self._cooling) else "failed")
        found = Found(snapshot, "")
        if place is not None:
            self._keep(place, found)
        return found

    def definitions(self, patience: float = 15.0) -> list[dict[str, Any]]:
        """The definitions of all flags, where a secret key loads them; else none.

        Args:
            patience: Seconds to wait for the first load.
        """
        if self._definitions is None:
            return []
        self._definitions.ensure(patience)
        return list(cast("Any", self.sdk.feature_flags) or [])

    def close(self) -> None:
        """No further question will come."""
        if self._definitions is not None:
            self._definitions.close()
        self.sdk.put_back()

    def after_fork(self) -> None:
        """To be called in the child of a fork."""
        self._lock = threading.RLock()
        self._breaker.after_fork()
        self.sdk.after_fork()
        if self._definitions is not None:
            self._definitions.after_fork()

    def _recall(self, place: object) -> Found | None:
        with self._lock:
            kept = self._kept.get(place)
            if kept is None or self._monotonic() - kept[0] > KEPT:
                return None
            return kept[1]

    def _keep(self, place: object, found: Found) -> None:
        with self._lock:
            self._kept[place] = (self._monotonic(), found)
            self._kept.move_to_end(place)
            while len(self._kept) > _CAPACITY:
                self._kept.popitem(last=False)


def _key(who: Who) -> str:
    # Values may be of any kind; their text tells them apart.
    return repr(
        (who.distinct_id, sorted(who.groups.items()), who.person_properties.items(), who.group_properties.items())
    )
