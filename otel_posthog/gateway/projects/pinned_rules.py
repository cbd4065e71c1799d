"""The rules that spooled requests were accepted under, kept beside the spool until nobody needs them.

    <spool>/rules/<digest>.json      what `project_rules` makes of the files; nothing secret is in it

A digest is that of the rules' meaning, so two projects, or two gateways, that share rules share the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.project_rules import restore_rules
from otel_posthog.gateway.configuration.settings import ProjectSettings
from otel_posthog.gateway.journal.journal import RULES
from otel_posthog.observe.log import Complaints
from otel_posthog.rules.engine import RuleSet

_DIGEST: Final = re.compile(r"[0-9a-f]{32}\Z")
_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_KNOWN: Final = 64
"""Rule sets that are kept compiled."""


class PinnedRules:
    """The rules of the past, by digest. Safe in any thread.

    Args:
        spool: The spool's folder; "" for none.
        keeping: Whether something is spooled that may outlive its rules; else those of earlier lives are read alone.
        complaints: Seldom log lines.
    """

    def __init__(self, spool: str, *, keeping: bool = True, complaints: Complaints | None = None) -> None:
        self._keeping = keeping and bool(spool)
        self._folder = Path(spool) / RULES if spool else None
        self._complaints = complaints or Complaints()
        self._none = RuleSet()
        self._known: dict[str, RuleSet] = {}
        self._lock = threading.Lock()

    def keep(self, projects: Iterable[ProjectSettings]) -> None:
        """Keeps the rules of `projects` before anything is accepted under them.

        Raises:
            OSError: They cannot be written durably.
        """
        for project in projects:
            digest = project.rules.digest
            if not digest or digest in self._known:
                continue
            if self._keeping and self._folder is not None:
                self._write(self._folder, digest, project.documents)
            self._remember(digest, project.rules)

    def rules(self, project: str, digest: str) -> RuleSet | None:
        """The rules of `digest`; `None`, and a warning, where they are not known any more.

        Args:
            project: Whose they were, for the warning.
            digest: Of the rules.
        """
        found = self._known.get(digest) if digest else self._none
        if found is not None:
            return found
        try:
            found = restore_rules(self._read(digest), digest)
        except (OSError, ConfigError) as error:
            why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
            self._complaints.say(
                f"pinned {project}",
                "project %s: what was spooled under rules %s is converted by those of today, which may make other "
                "events of it: %s",
                project,
                digest[:12] if _DIGEST.match(digest) else "of an unknown kind",
                why,
            )
            return None
        self._remember(digest, found)
        return found

    def _remember(self, digest: str, rules: RuleSet) -> None:
        with self._lock:
            # Only what is compiled is forgotten: its file stays.
            while len(self._known) >= _MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[digest] = rules

    def _read(self, digest: str) -> str:
        if self._folder is None or not _DIGEST.match(digest):
            raise FileNotFoundError(2, "they were never kept")
        with (self._folder / f"{digest}.json").open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")

    def _write(self, folder: Path, digest: str, documents: str) -> None:
        path = folder / f"{digest}.json"
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == documents:
                return
        for each in (*reversed(folder.parents), folder):
            each.mkdir(mode=0o700, exist_ok=True)  # `parents=True` would leave the spool itself open to others
        draft = folder / f".{digest}.{os.getpid()}-{secrets.token_hex(4)}"
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(documents.encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        _sync_folder(folder)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
