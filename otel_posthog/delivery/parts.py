"""What an engine is made of, injected: the wire, the way out, time, chance, and those who are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from otel_posthog.delivery.backoff import Backoff
from otel_posthog.delivery.protocols import Clock, DeliveryStats, Transport
from otel_posthog.delivery.wire import Wire


class Journal(Protocol):
    """Events on disk; see `spool.Spool`."""

    def append(self, records: Sequence[bytes], /) -> Sequence[Any]:
        """Writes durably and returns positions; raises OSError (SpoolFullError is one) with nothing written."""
        ...

    def read(self, limit: int, /) -> Sequence[tuple[Any, bytes, bool]]:
        """Up to `limit` records not in memory: position, record, whether this process wrote it."""
        ...

    def kept(self) -> None:
        """All that this process wrote so far is in memory: `read` need not give it."""
        ...

    def ack(self, positions: Sequence[Any], /) -> None:
        """These need not survive any longer."""
        ...

    def adopt(self) -> bool:
        """Takes over what dead processes left; whether there is something to read."""
        ...

    def close(self) -> None:
        """Releases the folder, and removes it where nothing is left in it."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What an engine is made of.

    Args:
        load: Imports what is imported late, and makes the wire; called once, by the first driver.
        transport: How requests leave.
        clock: Time.
        backoff: Pauses between attempts.
        send_guard: Entered around every request.
        guard: Told about internal errors.
        complain: Told about failures worth a log line.
        new_id: Makes request ids.
        journal: The spool, or `None`.
    """

    load: Callable[[], Wire]
    transport: Transport
    clock: Clock
    backoff: Backoff
    send_guard: Callable[[], AbstractContextManager[object]]
    guard: Callable[[str, BaseException], None]
    complain: Callable[[str, DeliveryStats], None]
    new_id: Callable[[], str]
    journal: Journal | None = None
