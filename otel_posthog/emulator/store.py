"""What arrived, in SQLite: one connection, one lock, one transaction for each request.

Every change raises `version` and wakes those who wait; nothing here knows HTTP.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from otel_posthog.emulator import schema
from otel_posthog.emulator.instants import text_of
from otel_posthog.emulator.otlp import TelemetryRow
from otel_posthog.emulator.persons import fold_groups, fold_person
from otel_posthog.emulator.pipeline import Prepared, prepare
from otel_posthog.emulator.received import Drop, ReceivedEvent, compact
from otel_posthog.errors import ConfigError

_KEPT_REFUSALS = 500

_INSERT = """
INSERT INTO events (token, day, event, distinct_id, uuid, timestamp, properties, sent, groups, mode, version,
                    historical, fingerprint, warnings, received_at, first_received_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (token, day, event, distinct_id, uuid) DO UPDATE SET
  timestamp = excluded.timestamp, properties = excluded.properties, sent = excluded.sent, groups = excluded.groups,
  mode = excluded.mode, version = excluded.version, historical = excluded.historical,
  fingerprint = excluded.fingerprint, warnings = excluded.warnings, received_at = excluded.received_at,
  arrivals = arrivals + 1
"""


class Store:
    """Events, people, groups and telemetry of all projects. Safe in any thread.

    Args:
        path: Database file, or `:memory:`; a file survives a restart.
        clock: Server time.

    Raises:
        ConfigError: The file cannot be used.
    """

    def __init__(self, path: str, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        self._version = 0
        self._listeners: list[Callable[[], None]] = []
        self._tokens: set[str] = set()
        self._closed = False
        self._db = _open(path)
        self._tokens.update(row[0] for row in self._db.execute("SELECT DISTINCT token FROM events"))
        self._tokens.update(row[0] for row in self._db.execute("SELECT DISTINCT token FROM telemetry"))

    # --- writing -------------------------------------------------------------------------------------------------

    def add_events(self, received: Sequence[ReceivedEvent], drops: Sequence[Drop], *, path: str) -> None:
        """Stores the events of one request, and notes what was dropped of it."""
        now = text_of(self._clock())
        with self._transaction() as db:
            for item in received:
                self._tokens.add(item.token)
                prepared = prepare(item)
                if isinstance(prepared, str):
                    drops = [*drops, Drop(prepared, item.event, item.uuid)]
                    continue
                self._insert(db, prepared, now)
            self._tally(db, "requests", 1)
            for (reason, event), count in Counter((drop.reason, drop.event) for drop in drops).items():
                self._refusal(db, now, path, 200, reason, event, count)

    def add_telemetry(self, token: str, rows: Sequence[TelemetryRow], *, signal: str) -> None:
        """Stores one OTLP request."""
        now = text_of(self._clock())
        with self._transaction() as db:
            self._tokens.add(token)
            db.executemany(
                "INSERT INTO telemetry (token, signal, name, service, time_ns, trace_id, span_id, distinct_id,"
                " session_id, data, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        token,
                        row.signal,
                        row.name,
                        row.service,
                        row.time_ns,
                        row.trace_id,
                        row.span_id,
                        row.distinct_id,
                        row.session_id,
                        compact(row.data),
                        now,
                    )
                    for row in rows
                ],
            )
            self._tally(db, f"requests_{signal}", 1)

    def add_refusal(self, *, path: str, status: int, reason: str, detail: str, events: int = 0) -> None:
        """Notes a request that was refused as a whole."""
        with self._transaction() as db:
            self._refusal(db, text_of(self._clock()), path, status, reason, detail, events)

    def count(self, name: str) -> None:
        """Counts a request that stores nothing."""
        with self._transaction() as db:
            self._tally(db, name, 1)

    def hash_keys(self, token: str, distinct_id: str, anonymous: str, flags: Sequence[str]) -> dict[str, str]:
        """What is hashed for somebody in place of their distinct id, by flag (experience continuity).

        Where nothing is known for a flag yet, the anonymous id is, from now on and for all ids of the person.

        Args:
            token: Project.
            distinct_id: Who asks now.
            anonymous: Who they were before the log-in, "" where they do not say.
            flags: Keys of the flags that keep their value.
        """
        with self._transaction() as db:
            known: dict[str, str] = {}
            for name in filter(None, (anonymous, distinct_id)):
                known.update(
                    db.execute(
                        "SELECT flag, hash_key FROM hash_keys WHERE token = ? AND (distinct_id = ? OR distinct_id IN"
                        " (SELECT i.distinct_id FROM person_ids i JOIN person_ids me ON me.person = i.person"
                        " WHERE me.token = ? AND me.distinct_id = ?)) ORDER BY rowid DESC",
                        (token, name, token, name),
                    ).fetchall()
                )
            if anonymous:
                fresh = [(token, distinct_id, flag, anonymous) for flag in flags if flag not in known]
                db.executemany("INSERT OR IGNORE INTO hash_keys VALUES (?, ?, ?, ?)", fresh)
                known.update({flag: anonymous for *_, flag, _ in fresh})
        return {flag: known[flag] for flag in flags if flag in known}

    def reset(self) -> None:
        """Forgets everything."""
        with self._transaction() as db:
            for name in schema.NAMES:
                db.execute(f"DELETE FROM {name}")  # noqa: S608 - our own table names
            self._tokens.clear()

    def touch(self) -> None:
        """Wakes those who wait for a change: something beside the store changed."""
        self._notify()

    def close(self) -> None:
        """Closes the database; waiters wake up."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()
        self._notify()

    # --- reading -------------------------------------------------------------------------------------------------

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of one statement as mappings."""
        with self._lock:
            cursor = self._db.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def tokens(self) -> list[str]:
        """Every token seen, the longest first."""
        with self._lock:
            return sorted(self._tokens, key=len, reverse=True)

    # --- waiting -------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Raised by every change."""
        return self._version

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def wait_beyond(self, version: int, timeout: float) -> bool:
        """Waits up to `timeout` seconds for a change after `version`; True if there was one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._version > version or self._closed, timeout)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` after every change, in the writer's thread; returns what ends that."""
        with self._changed:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._changed:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    # --- inside --------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._version += 1
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def _insert(self, db: sqlite3.Connection, prepared: Prepared, now: str) -> None:
        received = prepared.received
        groups, group_warnings = fold_groups(db, prepared)
        warnings = [*prepared.warnings, *fold_person(db, prepared), *group_warnings]
        timestamp = text_of(received.timestamp)
        db.execute(
            _INSERT,
            (
                received.token,
                timestamp[:10],
                received.event,
                received.distinct_id,
                received.uuid,
                timestamp,
                compact(prepared.properties),
                compact(received.sent),
                compact(groups),
                prepared.mode,
                received.version,
                received.historical,
                prepared.grouping.fingerprint,
                json.dumps(warnings),
                now,
                now,
            ),
        )
        for warning in warnings:
            self._tally(db, f"warning:{warning}", 1)

    def _refusal(
        self, db: sqlite3.Connection, at: str, path: str, status: int, reason: str, detail: str, events: int
    ) -> None:
        db.execute(
            "INSERT INTO refusals (at, path, status, reason, detail, events) VALUES (?, ?, ?, ?, ?, ?)",
            (at, path, status, reason, detail[:500], events),
        )
        db.execute("DELETE FROM refusals WHERE id <= (SELECT MAX(id) FROM refusals) - ?", (_KEPT_REFUSALS,))
        # A refused request is one count, a dropped event is one each.
        self._tally(db, f"{'dropped' if status == 200 else 'refused'}:{reason}", events if status == 200 else 1)

    @staticmethod
    def _tally(db: sqlite3.Connection, name: str, by: int) -> None:
        db.execute("INSERT INTO tallies VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n", (name, by))


def _open(path: str) -> sqlite3.Connection:
    if path != ":memory:" and not Path(path).absolute().parent.is_dir():
        raise ConfigError("its folder does not exist", key="--db", source=path, hint="Create the folder first")
    with ExitStack() as failed:
        try:
            # Every use is under the store's lock, so that threads may share the connection.
            db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            failed.callback(db.close)
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version in {0, schema.VERSION}:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.executescript(schema.TABLES)
                db.execute(f"PRAGMA user_version = {schema.VERSION}")
        except sqlite3.Error as error:
            raise ConfigError(
                str(error), key="--db", source=path, hint="Name a file that is a database or none yet"
            ) from None
        if version not in {0, schema.VERSION}:
            raise ConfigError(
                f"it was written by another version of the emulator (schema {version})",
                key="--db",
                source=path,
                hint="Delete the file or name another",
            )
        failed.pop_all()
    return db
