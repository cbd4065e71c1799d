"""Requests that are answered after PostHog's verdict (`forward`): deadlines, and retries that meet their first attempt.

A caller that was told to come again sends the same bytes again. Where the first attempt's events are still on their
way, the second waits for these, and no event goes out twice for it; where not all of them could even be handed out, the
first attempt was forgotten, and the second begins anew.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING

from otel_posthog.gateway.inbound import Inbound

if TYPE_CHECKING:
    from otel_posthog.gateway.processing.work import Work

Ended = Callable[[str | None], None]
"""Called with what is to be said of it, "" for nothing; with `None` where it is to be sent again."""


def key_of(inbound: Inbound, body: bytes) -> bytes:
    """What a retry has in common with its first attempt.

    Args:
        inbound: The request.
        body: Its body, inflated.
    """
    about = f"{inbound.kind} {inbound.media_type} {inbound.caller}".encode("utf-8", "surrogatepass")
    return blake2b(body, digest_size=16, key=blake2b(about, digest_size=16).digest()).digest()


class Attempt:
    """One request on its way, and who waits for it."""

    __slots__ = ("key", "waiting", "work")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.waiting: list[Ended] = []
        self.work: Work | None = None


class Forwarding:
    """Every attempt that has not ended. Safe in any thread.

    Args:
        timeout: Seconds until a caller is told to come again.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._attempts: dict[bytes, Attempt] = {}
        self._deadlines: deque[tuple[float, Attempt, Ended]] = deque()

    def take(self, key: bytes, ended: Ended, now: float) -> Attempt | None:
        """A new attempt; `None` where the same request is on its way: then `ended` waits for that one.

        Args:
            key: From `key_of`.
            ended: Called once.
            now: Monotonic seconds.
        """
        with self._lock:
            found = self._attempts.get(key)
            attempt = found or self._attempts.setdefault(key, Attempt(key))
            attempt.waiting.append(ended)
            self._deadlines.append((now + self._timeout, attempt, ended))
            return attempt if found is None else None

    def next_deadline(self) -> float | None:
        """Monotonic seconds at which `expire` is due; `None` where nobody waits."""
        with self._lock:
            return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: float) -> list[Work]:
        """Tells those whose time is over to come again.

        Args:
            now: Monotonic seconds.

        Returns:
            Records that nobody waits for any more, and that are not on their way as a whole: they are forgotten.
        """
        late: list[Ended] = []
        forgotten: list[Work] = []
        with self._lock:
            while self._deadlines and self._deadlines[0][0] <= now:
                _, attempt, ended = self._deadlines.popleft()
                if ended not in attempt.waiting:
                    continue
                attempt.waiting.remove(ended)
                late.append(ended)
                work = attempt.work
                if not attempt.waiting and work is not None and work.to_hand_out:
                    self._attempts.pop(attempt.key, None)
                    forgotten.append(work)
        for ended in late:
            ended(None)
        return forgotten

    def end(self, attempt: Attempt, said: str | None) -> None:
        """All events of an attempt have their end.

        Args:
            attempt: The attempt.
            said: For `Ended`.
        """
        with self._lock:
            if self._attempts.get(attempt.key) is attempt:
                del self._attempts[attempt.key]
            waiting, attempt.waiting = attempt.waiting, []
        for ended in waiting:
            ended(said)
