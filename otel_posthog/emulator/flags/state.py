"""The flags in force: of a file that is read again when it changes, of a mapping, or none."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otel_posthog.emulator.flags.document import FlagsError, flags_of, load_flags
from otel_posthog.emulator.flags.model import FlagSet

FlagSource = FlagSet | Mapping[str, Any] | str | os.PathLike[str] | None
"""A file's path, a mapping as the file would hold it, flags that were read before, or None for no flag."""


class FlagState:
    """Safe in any thread.

    Args:
        source: The flags.

    Raises:
        FlagsError: They cannot be used.
    """

    def __init__(self, source: FlagSource = None) -> None:
        self._lock = threading.Lock()
        self._flags = FlagSet()
        self._path = ""
        self._seen: tuple[int, ...] | None = None
        self._problem = ""
        self.replace(source)

    def replace(self, source: FlagSource) -> None:
        """Puts other flags in force.

        Raises:
            FlagsError: They cannot be used; those in force stay.
        """
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
        # Before it is read: a change while it is read is a change.
        seen = _signature(path)
        if path:
            flags = load_flags(path)
        elif isinstance(source, FlagSet):
            flags = source
        else:
            flags = flags_of(source) if isinstance(source, Mapping) else FlagSet()
        with self._lock:
            self._flags, self._path, self._seen, self._problem = flags, path, seen, ""

    def current(self) -> FlagSet:
        """The flags now. A file that was changed into something unusable leaves those of before in force."""
        with self._lock:
            if self._path and (seen := _signature(self._path)) != self._seen:
                self._seen = seen
                try:
                    self._flags, self._problem = load_flags(self._path), ""
                except FlagsError as error:
                    self._problem = str(error)
            return self._flags

    @property
    def path(self) -> str:
        """The file, "" for none."""
        return self._path

    @property
    def problem(self) -> str:
        """Why the last change of the file is not in force, "" where it is."""
        return self._problem


def _signature(path: str) -> tuple[int, ...] | None:
    try:
        found = Path(path).expanduser().stat() if path else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
