"""When to read the configuration again: a file of it has changed.

By looking, since notifications miss what Kubernetes does with mounted secrets (a link to a folder is exchanged) and
what network file systems do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

POLL_INTERVAL: Final = 2.0
"""Seconds between two looks."""

Signature = tuple[int, int, int]


class Watch:
    """Files, and how they looked when last asked. Belongs to one thread.

    Args:
        files: Their paths.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._seen = {path: signature_of(path) for path in files}

    def changed(self) -> bool:
        """Whether one of them is another than at the last look."""
        now = {path: signature_of(path) for path in self._seen}
        changed, self._seen = now != self._seen, now
        return changed

    def follow(self, files: Iterable[str]) -> None:
        """Watches `files` from now on; those that are known already keep how they looked."""
        self._seen = {path: self._seen.get(path) or signature_of(path) for path in files}


def signature_of(path: str) -> Signature | None:
    """What changes when a file is written or replaced; `None` where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - links are followed: what they lead to is what is read
    except (OSError, ValueError):
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
