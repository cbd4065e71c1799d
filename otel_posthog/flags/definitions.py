"""The thread that looks at the definitions of flags, where a secret key lets the process evaluate them itself.

The SDK has one of its own, which makes its first request in the caller's thread, up to ten seconds long, and whose
requests the HTTP instrumentation would trace.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any


class Definitions:
    """Loads now and then, from the first question on.

    Args:
        load: Loads the definitions; does not raise.
        interval: Seconds between two loads.
        around: Entered around each load.
        wanted: Whether to go on.
    """

    def __init__(
        self,
        load: Callable[[], object],
        *,
        interval: float,
        around: Callable[[], AbstractContextManager[Any]],
        wanted: Callable[[], bool],
    ) -> None:
        self._load = load
        self._interval = interval
        self._around = around
        self._wanted = wanted
        self._lock = threading.RLock()
        self._start_over()
        self._loaded = False

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._first = threading.Event()
        self._halt = threading.Event()

    def after_fork(self) -> None:
        """To be called in the child of a fork: what was loaded stays, the thread does not exist here."""
        self._lock = threading.RLock()
        self._start_over()

    def ensure(self, patience: float) -> None:
        """Starts the thread where it does not run; waits for the very first load.

        Args:
            patience: Seconds to wait at the most.
        """
        if self._pid != os.getpid():  # a fork that Python did not see
            self.after_fork()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._halt.is_set():
                    thread = threading.Thread(target=self._run, name="otel-posthog-flags", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:
                        return  # the interpreter is on its way out
                    self._thread = thread
        if not self._loaded:
            self._first.wait(patience)

    def close(self) -> None:
        """Ends the thread; what was loaded stays."""
        self._halt.set()

    def _run(self) -> None:
        halt = self._halt
        while not halt.is_set() and self._wanted():
            with self._around():
                self._load()
            self._loaded = True
            self._first.set()
            halt.wait(self._interval)
