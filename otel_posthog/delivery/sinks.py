"""Sinks for people who look: the console, a file, memory. Onlookers, never the way to PostHog.

They write on a thread of their own (memory excepted: it does no I/O), and when they cannot keep up they count what they
missed rather than hold up anybody.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from otel_posthog.delivery.complaints import Complaints
from otel_posthog.delivery.encoding import dumps, rfc3339
from otel_posthog.delivery.protocols import DeliveryStats, Receipt
from otel_posthog.model import CaptureEvent, LossReason

MEMORY_EVENTS = 10_000
QUEUE_EVENTS = 10_000


class Onlooker(Protocol):
    """Sees every event that the primary took."""

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """As `Delivery.submit`; a refusal concerns nobody else."""
        ...

    def resume(self) -> None:
        """As `Delivery.resume`."""
        ...

    def flush(self, timeout: float) -> bool:
        """As `Delivery.flush`."""
        ...

    def shutdown(self, timeout: float) -> bool:
        """As `Delivery.shutdown`."""
        ...

    def stats(self) -> DeliveryStats:
        """Its own books."""
        ...


def readable(event: CaptureEvent) -> dict[str, Any]:
    """`event` as people read it: PostHog's names, the time as text."""
    return {
        "timestamp": rfc3339(event.timestamp_ns),
        "event": event.event,
        "distinct_id": event.distinct_id,
        "uuid": event.uuid,
        "properties": dict(event.properties),
    }


def _end(events: Sequence[CaptureEvent], receipt: Receipt | None) -> None:
    """A sink for people makes no promise beyond having seen an event."""
    if receipt is not None:
        receipt.taken(len(events))
        for event in events:
            receipt.ended(event, None, "")


class MemorySink:
    """Keeps the newest events, for tests and for looking.

    Args:
        limit: Events kept at the most; the oldest go first.
    """

    def __init__(self, limit: int = MEMORY_EVENTS) -> None:
        self._events: deque[CaptureEvent] = deque(maxlen=limit)
        self._seen = 0
        self._closed = False

    @property
    def events(self) -> list[CaptureEvent]:
        """What is kept, oldest first."""
        return list(self._events)

    def clear(self) -> None:
        """Forgets all events."""
        self._events.clear()

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """Keeps `events`."""
        if self._closed:
            return False
        self._events.extend(events)
        self._seen += len(events)
        _end(events, receipt)
        return True

    def resume(self) -> None:
        """Nothing was left."""

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - nothing to wait for
        """Always done."""
        return True

    def shutdown(self, timeout: float) -> bool:  # noqa: ARG002 - nothing to wait for
        """Takes no more; what is kept stays readable."""
        self._closed = True
        return True

    def stats(self) -> DeliveryStats:
        """What it saw."""
        return DeliveryStats(captured=self._seen, delivered=self._seen)


class Writer(Protocol):
    """Where lines of text go."""

    def write(self, lines: Sequence[str]) -> None:
        """Writes lines; raises OSError or ValueError where that fails."""
        ...

    def close(self) -> None:
        """Closes what it opened."""
        ...

    def render(self, event: CaptureEvent) -> str:
        """One event, with its line end."""
        ...


class ConsoleWriter:
    """Events on standard error, or another stream.

    Args:
        stream: `None` for the standard error of the moment (test runners and servers replace it).
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def render(self, event: CaptureEvent) -> str:
        """`posthog <event> <distinct_id> <properties>` on one line: no line break of the data can forge another."""
        name = dumps(event.event).decode()[1:-1]
        person = dumps(event.distinct_id).decode()[1:-1]
        line = f"posthog {rfc3339(event.timestamp_ns)} {name} {person} {dumps(dict(event.properties)).decode()}"
        # What moves the cursor or turns text around stays out of terminals: as JSON escapes.
        return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line) + "\n"

    def write(self, lines: Sequence[str]) -> None:
        """Writes and flushes."""
        stream = self._stream or sys.stderr
        text = "".join(lines)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()

    def close(self) -> None:
        """The stream is not ours to close."""


class FileWriter:
    """JSON lines appended to a file, opened anew after every failure (rotation, a full disk, a removed folder).

    Args:
        path: The file; made with its folder, readable by its owner only.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser()
        self._descriptor = -1

    def render(self, event: CaptureEvent) -> str:
        """One JSON object on one line."""
        return dumps(readable(event)).decode() + "\n"

    def write(self, lines: Sequence[str]) -> None:
        """Appends whole lines with one write, so that several processes may share the file."""
        if self._descriptor >= 0 and self._rotated():
            self.close()
        if self._descriptor < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        data = memoryview("".join(lines).encode())
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self.close()
            raise

    def _rotated(self) -> bool:
        try:
            there = self._path.stat()
            ours = os.fstat(self._descriptor)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def close(self) -> None:
        """Closes the file; a later write opens it again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class WriterSink:
    """An onlooker that writes lines on its own daemon thread.

    Args:
        writer: Where to.
        guard: Told about what fails.
        name: For the thread.
        limit: Events waiting at the most; beyond that they are not shown, and counted.
    """

    def __init__(
        self, writer: Writer, *, guard: Callable[[str, BaseException], None], name: str, limit: int = QUEUE_EVENTS
    ) -> None:
        self._writer = writer
        self._guard = guard
        self._name = name
        self._limit = limit
        self._closed = False
        self._complain = Complaints(f"sink {name}", time.monotonic)
        self._forget()
        if hasattr(os, "register_at_fork"):
            me = weakref.WeakMethod(self._forget)
            os.register_at_fork(after_in_child=lambda: _call(me))

    def _forget(self) -> None:
        self._pid = os.getpid()
        vars(self).pop("_first_changed", None)
        self._queue: deque[CaptureEvent] = deque()
        # Made late, as in `lane.py`: gevent may patch threading after we are built.
        self._changed: threading.Condition | None = None
        self._thread: threading.Thread | None = None
        self._captured = self._written = self._failed = self._writing = 0

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """See `Onlooker.submit`."""
        if self._pid != os.getpid():
            self._forget()
        changed = self._changed
        if changed is None:
            changed = self._changed = vars(self).setdefault("_first_changed", threading.Condition())
        with changed:
            if self._closed or len(self._queue) + len(events) > self._limit:
                return False
            self._queue.extend(events)
            self._captured += len(events)
            changed.notify_all()
        if self._thread is None:
            self._start()
        _end(events, receipt)
        return True

    def resume(self) -> None:
        """Nothing was left."""

    def flush(self, timeout: float) -> bool:
        """See `Onlooker.flush`."""
        changed = self._changed
        if changed is None:
            return True
        deadline = time.monotonic() + timeout
        if self._thread is None or not self._thread.is_alive():
            self._write_some(changed)
        with changed:
            while self._queue or self._writing:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                changed.wait(left)
        return True

    def shutdown(self, timeout: float) -> bool:
        """See `Onlooker.shutdown`."""
        self._closed = True
        done = self.flush(timeout)
        changed = self._changed
        if changed is not None:
            with changed:
                self._failed += len(self._queue)
                self._queue.clear()
                changed.notify_all()
        if done:
            self._writer.close()
        return done

    def stats(self) -> DeliveryStats:
        """See `Onlooker.stats`."""
        changed = self._changed
        if changed is None:
            return DeliveryStats()
        with changed:
            return DeliveryStats(
                captured=self._captured,
                delivered=self._written,
                lost={LossReason.REJECTED: self._failed} if self._failed else {},
                pending=len(self._queue) + self._writing,
            )

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"otel-posthog-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread": flush writes
            return
        self._thread = thread

    def _work(self) -> None:
        changed = self._changed
        assert changed is not None
        while True:
            with changed:
                while not self._queue:
                    if self._closed:
                        return
                    changed.wait(3600)
            self._write_some(changed)

    def _write_some(self, changed: threading.Condition) -> None:
        while True:
            with changed:
                events = [self._queue.popleft() for _ in range(min(100, len(self._queue)))]
                self._writing = len(events)
            if not events:
                return
            written = 0
            try:
                lines = [self._writer.render(event) for event in events]
                self._writer.write(lines)
                written = len(events)
            except OSError as error:
                self._complain(f"cannot be written ({error.strerror or type(error).__name__})", self.stats())
            except Exception as error:  # noqa: BLE001 - an edge: an onlooker concerns nobody
                self._guard(f"sink.{self._name}", error)
            finally:
                with changed:
                    self._writing = 0
                    self._written += written
                    self._failed += len(events) - written
                    changed.notify_all()


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    bound = method()
    if bound is not None:
        bound()
