"""Remembers, over the death of the process, which record was at work when it died.

A record whose conversion kills the process would kill each next one, too. So the place of a record of an earlier life
is noted in its folder while it is being converted (`<folder>/trying`, written in place, without a sync: only a crash of
the process counts, not one of the machine), and a life that finds its own first record noted there knows better.

Converting takes milliseconds, so that a process that is killed for other reasons hardly ever leaves a note, and never
several times in a row for one record.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import Final

from otel_posthog.delivery.spool import Place
from otel_posthog.delivery.spool_files import Files

NAME: Final = "trying"
_NOTE: Final = struct.Struct("<QQII")


class Strikes:
    """One note for each folder. For one thread.

    Args:
        files: File operations.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._found: dict[str, tuple[int, int, int]] = {}

    def begin(self, place: Place) -> int:
        """Notes that the record at `place` is being converted; the how many-th time in a row that is."""
        folder = place.log.folder
        found = self._found.get(folder)
        if found is None:
            found = self._read(folder)
        segment, start, count = found
        count = count + 1 if (segment, start) == (place.position.segment, place.position.start) else 1
        self._found[folder] = (place.position.segment, place.position.start, count)
        self._write(folder, place.position.segment, place.position.start, count)
        return count

    def end(self, place: Place) -> None:
        """It has been converted, whatever came of it."""
        folder = place.log.folder
        self._found[folder] = (0, 0, 0)
        self._write(folder, 0, 0, 0)

    def _read(self, folder: str) -> tuple[int, int, int]:
        try:
            data = self._files.read(f"{folder}/{NAME}", 0, _NOTE.size)
            segment, start, count, crc = _NOTE.unpack(data)
        except (OSError, struct.error):
            return (0, 0, 0)
        return (segment, start, count) if crc == zlib.crc32(data[:-4]) else (0, 0, 0)

    def _write(self, folder: str, segment: int, start: int, count: int) -> None:
        data = _NOTE.pack(segment, start, count, 0)[:-4]
        # A full disk, or a folder that was removed meanwhile: then there is no note.
        with contextlib.suppress(OSError):
            self._files.write_small(f"{folder}/{NAME}", data + struct.pack("<I", zlib.crc32(data)))
