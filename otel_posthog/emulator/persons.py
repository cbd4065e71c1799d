"""People and groups, folded from events in the order of their arrival, as PostHog's ingestion does.

PostHog applies `$set` when an event is processed, whatever its timestamp says: an older event that arrives later
overwrites (decision 0051). A resend that is de-duplicated as an event is applied to the person again.
"""

from __future__ import annotations

import json
import sqlite3
import uuid as uuids
from dataclasses import dataclass
from typing import Any

from otel_posthog.emulator.instants import text_of
from otel_posthog.emulator.pipeline import PersonChange, Prepared, groups_of, identified_group
from otel_posthog.emulator.received import compact
from otel_posthog.semconv.posthog import ILLEGAL_DISTINCT_IDS, MAX_GROUP_TYPES

_NAMESPACE = uuids.UUID("6f2d9c1e-3f0b-5d2a-9d0e-6a1f0c6b7e11")


@dataclass(slots=True)
class _Person:
    id: str
    created_at: str
    properties: dict[str, Any]
    identified: bool


def fold_person(db: sqlite3.Connection, prepared: Prepared) -> list[str]:
    """Applies one event to its person; returns ingestion warnings. The caller owns the transaction."""
    change = prepared.person
    if change is None:
        return []
    received = prepared.received
    token, distinct_id, created_at = received.token, received.distinct_id, text_of(received.timestamp)
    warnings: list[str] = []
    person = None
    if change.merge:
        person = _merge(db, token, distinct_id, change, created_at, warnings)
    if person is None:
        person = _find(db, token, distinct_id)
    if person is None:
        person = _create(db, token, [distinct_id], created_at)
    before = compact(person.properties)
    _update(person.properties, change)
    if compact(person.properties) != before:
        _save(db, person)
    return warnings


def fold_groups(db: sqlite3.Connection, prepared: Prepared) -> tuple[dict[str, str], list[str]]:
    """Registers the groups of one event; returns those that count for it, and warnings.

    A personless event has no groups in PostHog.
    """
    if prepared.person is None:
        return {}, []
    token, at = prepared.received.token, text_of(prepared.received.timestamp)
    warnings: list[str] = []
    kept: dict[str, str] = {}
    for kind, key in groups_of(prepared.properties).items():
        if not _has_type(db, token, kind):
            warnings.append("group_type_limit_exceeded")
            continue
        kept[kind] = key
        db.execute("INSERT OR IGNORE INTO groups VALUES (?, ?, ?, '{}', ?, 0)", (token, kind, key, at))
    if prepared.received.event == "$groupidentify":
        identified = identified_group(prepared.properties)
        if identified is not None:
            kind, key, properties = identified
            if _has_type(db, token, kind):
                _identify_group(db, token, kind, key, properties, at)
                kept[kind] = key
            else:
                warnings.append("group_type_limit_exceeded")
    return kept, warnings


def _update(properties: dict[str, Any], change: PersonChange) -> None:
    for key, value in change.set_once.items():
        properties.setdefault(key, value)
    properties.update(change.set)
    for key in change.unset:
        properties.pop(key, None)


def _merge(
    db: sqlite3.Connection, token: str, into_id: str, change: PersonChange, at: str, warnings: list[str]
) -> _Person | None:
    """The person of `into_id` after `change.merge` became the same person; None where nothing was merged."""
    other_id = change.merge
    if other_id == into_id:
        return None
    for distinct_id in (into_id, other_id):
        if not distinct_id.strip() or distinct_id.strip().lower() in ILLEGAL_DISTINCT_IDS:
            warnings.append("cannot_merge_with_illegal_distinct_id")
            return None
    other, into = _find(db, token, other_id), _find(db, token, into_id)
    if other is None and into is None:
        person = _create(db, token, [into_id, other_id], at)
    elif other is None or into is None:
        person, added = (other, into_id) if other is not None else (into, other_id)
        assert person is not None
        _add_id(db, token, added, person.id)
    elif other.id == into.id:
        person = into
    elif other.identified and not change.dangerous:
        warnings.append("cannot_merge_already_identified")
        person = into
    else:
        person = into
        person.properties = {**other.properties, **into.properties}
        person.created_at = min(other.created_at, into.created_at)
        db.execute("UPDATE person_ids SET person = ? WHERE person = ?", (person.id, other.id))
        db.execute("DELETE FROM persons WHERE id = ?", (other.id,))
    person.identified = True
    _save(db, person)
    return person


def _find(db: sqlite3.Connection, token: str, distinct_id: str) -> _Person | None:
    row = db.execute(
        "SELECT p.id, p.created_at, p.properties, p.identified FROM person_ids i JOIN persons p ON p.id = i.person"
        " WHERE i.token = ? AND i.distinct_id = ?",
        (token, distinct_id),
    ).fetchone()
    return None if row is None else _Person(row[0], row[1], json.loads(row[2]), bool(row[3]))


def _create(db: sqlite3.Connection, token: str, distinct_ids: list[str], at: str) -> _Person:
    # Deterministic, as PostHog's are: the same id in the same project is the same person after a reset.
    person = _Person(str(uuids.uuid5(_NAMESPACE, f"{token}:{distinct_ids[0]}")), at, {}, identified=False)
    # A person that was merged away frees its id for nobody else.
    if db.execute("SELECT 1 FROM persons WHERE id = ?", (person.id,)).fetchone():
        person.id = str(uuids.uuid4())
    db.execute("INSERT INTO persons VALUES (?, ?, ?, '{}', 0)", (person.id, token, at))
    for distinct_id in distinct_ids:
        _add_id(db, token, distinct_id, person.id)
    return person


def _add_id(db: sqlite3.Connection, token: str, distinct_id: str, person: str) -> None:
    db.execute("INSERT INTO person_ids VALUES (?, ?, ?)", (token, distinct_id, person))


def _save(db: sqlite3.Connection, person: _Person) -> None:
    db.execute(
        "UPDATE persons SET created_at = ?, properties = ?, identified = ? WHERE id = ?",
        (person.created_at, compact(person.properties), person.identified, person.id),
    )


def _has_type(db: sqlite3.Connection, token: str, kind: str) -> bool:
    types = [row[0] for row in db.execute("SELECT type FROM group_types WHERE token = ?", (token,))]
    if kind in types:
        return True
    if len(types) >= MAX_GROUP_TYPES:
        return False
    db.execute("INSERT INTO group_types VALUES (?, ?, ?)", (token, kind, len(types)))
    return True


def _identify_group(
    db: sqlite3.Connection, token: str, kind: str, key: str, properties: dict[str, Any], at: str
) -> None:
    row = db.execute(
        "SELECT properties FROM groups WHERE token = ? AND type = ? AND key = ?", (token, kind, key)
    ).fetchone()
    before: dict[str, Any] = json.loads(row[0]) if row else {}
    merged = {**before, **properties}
    db.execute(
        "INSERT INTO groups VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (token, type, key)"
        " DO UPDATE SET properties = excluded.properties, identified = 1",
        (token, kind, key, compact(merged), at),
    )
