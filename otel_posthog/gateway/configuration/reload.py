"""When to read the configuration again: a file of it has changed.

By looking, since notifications miss what Kubernetes does with mounted secrets (a link to a folder is exchanged) and
what network file systems do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

POLL_INTERVAL: Final = 2.0
"""Seconds between two looks."""

SETTLE: Final = 0.5
"""Seconds in which a file that has changed must not change again: it is not written in one go everywhere."""

Signature = tuple[int, int, int]


class Watch:
    """Files, and how they looked when last asked. Belongs to one thread.

    Args:
        files: Their paths.
        seen: How each of them looked when it was read; as they look now where there are none.
    """

    def __init__(self, files: Sequence[str], seen: Sequence[Signature | None] = ()) -> None:
        self._seen: dict[str, Signature | None] = {}
        self.follow(files, seen)

    def changed(self) -> bool:
        """Whether one of them is another than at the last look."""
        now = {path: signature_of(path) for path in self._seen}
        changed, self._seen = now != self._seen, now
        return changed

    def follow(self, files: Sequence[str], seen: Sequence[Signature | None] = ()) -> None:
        """Watches `files` from now on, and no others; arguments as above."""
        self._seen = dict(zip(files, seen or [signature_of(path) for path in files], strict=True))

    def also(self, files: Mapping[str, Signature | None]) -> None:
        """Watches these besides: what is wrong may be mended in a file that nothing that holds names yet.

        Args:
            files: Path -> how it looked when it was read.
        """
        self._seen = {**files, **self._seen}


def signature_of(path: str) -> Signature | None:
    """What changes when a file is written or replaced; `None` where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - links are followed: what they lead to is what is read
    except (OSError, ValueError):
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
