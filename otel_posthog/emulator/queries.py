"""Questions about what arrived, answered as JSON-ready mappings; newest first unless said otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from otel_posthog.emulator.issues import title_of
from otel_posthog.emulator.store import Store

_EVENT = (
    "SELECT e.*, i.person AS person_id FROM events e"
    " LEFT JOIN person_ids i ON i.token = e.token AND i.distinct_id = e.distinct_id"
)
_EVENT_FILTERS = {
    "event": "e.event = ?",
    "distinct_id": "e.distinct_id = ?",
    "uuid": "e.uuid = ?",
    "token": "e.token = ?",
    "person": "i.person = ?",
    "issue": "e.fingerprint = ?",
    "mode": "e.mode = ?",
    "version": "e.version = ?",
    "after": "e.timestamp >= ?",
    "before": "e.timestamp < ?",
}
_TELEMETRY_FILTERS = {
    "trace_id": "trace_id = ?",
    "service": "service = ?",
    "distinct_id": "distinct_id = ?",
    "session_id": "session_id = ?",
    "name": "name = ?",
    "token": "token = ?",
}
FLAG_REQUESTS = ("evaluations", "definitions", "not_modified", "remote_config")
EVENT_FILTERS = (*_EVENT_FILTERS, "q")
TELEMETRY_FILTERS = (*_TELEMETRY_FILTERS, "q")


def events(
    store: Store, filters: Mapping[str, str] | None = None, *, limit: int = -1, offset: int = 0, oldest: bool = False
) -> list[dict[str, Any]]:
    """Events with whole properties; `filters` as in `EVENT_FILTERS`."""
    where, values = _event_where(filters or {})
    order = "ASC" if oldest else "DESC"
    rows = store.rows(f"{_EVENT}{where} ORDER BY e.id {order} LIMIT ? OFFSET ?", [*values, limit, offset])
    return [_event(row) for row in rows]


def event_count(store: Store, filters: Mapping[str, str] | None = None) -> int:
    """How many events pass `filters`."""
    where, values = _event_where(filters or {})
    sql = f"SELECT COUNT(*) AS n FROM events e LEFT JOIN person_ids i ON i.token = e.token AND i.distinct_id = e.distinct_id{where}"  # noqa: E501, S608
    return int(store.rows(sql, values)[0]["n"])


def event_names(store: Store) -> list[dict[str, Any]]:
    """Each event name with its count, the most frequent first."""
    return store.rows("SELECT event, COUNT(*) AS count FROM events GROUP BY event ORDER BY count DESC, event")


def persons(store: Store, *, q: str = "", limit: int = -1, offset: int = 0) -> list[dict[str, Any]]:
    """People, those seen last first."""
    clause, values = ("", [])
    if q:
        clause = (
            " WHERE instr(lower(p.properties), lower(?)) OR EXISTS (SELECT 1 FROM person_ids f WHERE f.person = p.id"
            " AND instr(lower(f.distinct_id), lower(?)))"
        )
        values = [q, q]
    rows = store.rows(
        "SELECT p.*, COUNT(e.id) AS events, MAX(e.timestamp) AS last_seen, MAX(e.id) AS newest FROM persons p"  # noqa: S608
        " JOIN person_ids i ON i.person = p.id"
        " LEFT JOIN events e ON e.token = i.token AND e.distinct_id = i.distinct_id"
        f"{clause} GROUP BY p.id ORDER BY newest DESC, p.rowid DESC LIMIT ? OFFSET ?",
        [*values, limit, offset],
    )
    return [_person(store, row) for row in rows]


def person_count(store: Store) -> int:
    """How many people there are."""
    return int(store.rows("SELECT COUNT(*) AS n FROM persons")[0]["n"])


def person(store: Store, key: str) -> dict[str, Any] | None:
    """The person of an id, or of a distinct id."""
    rows = store.rows(
        "SELECT p.*, COUNT(e.id) AS events, MAX(e.timestamp) AS last_seen FROM persons p"
        " JOIN person_ids i ON i.person = p.id"
        " LEFT JOIN events e ON e.token = i.token AND e.distinct_id = i.distinct_id"
        " WHERE p.id = ? OR p.id = (SELECT person FROM person_ids WHERE distinct_id = ? LIMIT 1)"
        " GROUP BY p.id ORDER BY p.id = ? DESC LIMIT 1",
        [key, key, key],
    )
    return _person(store, rows[0]) if rows else None


def groups(store: Store) -> list[dict[str, Any]]:
    """Groups by type in order of appearance, then key."""
    rows = store.rows(
        "SELECT g.*, t.position FROM groups g LEFT JOIN group_types t ON t.token = g.token AND t.type = g.type"
        " ORDER BY g.token, t.position, g.key"
    )
    for row in rows:
        row["properties"] = json.loads(row["properties"])
        row["identified"] = bool(row["identified"])
    counts = {
        (row["token"], row["type"], row["key"]): row["n"]
        for row in store.rows(
            "SELECT e.token, j.key AS type, j.value AS key, COUNT(*) AS n FROM events e, json_each(e.groups) j"
            " GROUP BY 1, 2, 3"
        )
    }
    return [{**row, "events": counts.get((row["token"], row["type"], row["key"]), 0)} for row in rows]


def properties_of(store: Store, token: str, distinct_id: str) -> dict[str, Any]:
    """Properties of the person of a distinct id; empty for nobody."""
    rows = store.rows(
        "SELECT p.properties FROM person_ids i JOIN persons p ON p.id = i.person"
        " WHERE i.token = ? AND i.distinct_id = ?",
        [token, distinct_id],
    )
    return json.loads(rows[0]["properties"]) if rows else {}


def group_properties(store: Store, token: str, kind: str, key: str) -> dict[str, Any]:
    """Properties of a group; empty for an unknown one."""
    rows = store.rows("SELECT properties FROM groups WHERE token = ? AND type = ? AND key = ?", [token, kind, key])
    return json.loads(rows[0]["properties"]) if rows else {}


def flag_calls(store: Store) -> dict[str, list[dict[str, Any]]]:
    """What code was told, by flag: each value with how often and for how many people, the most frequent first."""
    flag, value = ('$."$feature_flag"', '$."$feature_flag_response"')
    rows = store.rows(
        "SELECT json_extract(properties, ?) AS flag, json_type(properties, ?) AS kind,"
        " json_extract(properties, ?) AS value, COUNT(*) AS count, COUNT(DISTINCT distinct_id) AS users,"
        " MAX(timestamp) AS last_seen FROM events WHERE event = '$feature_flag_called'"
        " GROUP BY 1, 2, 3 ORDER BY count DESC, 3",
        [flag, value, value],
    )
    calls: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kind = row.pop("kind")
        if kind in {"true", "false"}:
            row["value"] = kind == "true"
        calls.setdefault(str(row.pop("flag")), []).append(row)
    return calls


def issues(store: Store) -> list[dict[str, Any]]:
    """Error issues, the one seen last first."""
    rows = store.rows(
        "SELECT token, fingerprint AS id, COUNT(*) AS count, COUNT(DISTINCT distinct_id) AS users,"
        " MIN(timestamp) AS first_seen, MAX(timestamp) AS last_seen, MIN(id) AS first, MAX(id) AS last"
        " FROM events WHERE fingerprint != '' GROUP BY token, fingerprint ORDER BY last DESC"
    )
    for row in rows:
        first = row.pop("first")
        last = row.pop("last")
        properties = store.rows("SELECT id, properties FROM events WHERE id IN (?, ?) ORDER BY id", [first, last])
        row["type"], row["value"] = title_of(json.loads(properties[0]["properties"]))
        newest = json.loads(properties[-1]["properties"])
        row["level"] = newest.get("$exception_level") or "error"
        row["exceptions"] = newest.get("$exception_list")
    return rows


def issue(store: Store, fingerprint: str) -> dict[str, Any] | None:
    """One issue."""
    return next((row for row in issues(store) if row["id"] == fingerprint), None)


def telemetry(
    store: Store, signal: str, filters: Mapping[str, str] | None = None, *, limit: int = -1, offset: int = 0
) -> list[dict[str, Any]]:
    """Spans, log records or metrics; `filters` as in `TELEMETRY_FILTERS`."""
    where, values = _telemetry_where(signal, filters or {})
    rows = store.rows(f"SELECT * FROM telemetry{where} ORDER BY id DESC LIMIT ? OFFSET ?", [*values, limit, offset])  # noqa: S608
    for row in rows:
        row["data"] = json.loads(row["data"])
    return rows


def telemetry_count(store: Store, signal: str, filters: Mapping[str, str] | None = None) -> int:
    """How many spans, log records or metrics pass `filters`."""
    where, values = _telemetry_where(signal, filters or {})
    return int(store.rows(f"SELECT COUNT(*) AS n FROM telemetry{where}", values)[0]["n"])  # noqa: S608


def refusals(store: Store, *, limit: int = -1) -> list[dict[str, Any]]:
    """What was refused or dropped."""
    return store.rows("SELECT * FROM refusals ORDER BY id DESC LIMIT ?", [limit])


def stats(store: Store) -> dict[str, Any]:
    """The books: received = stored + duplicates; dropped, refused and warnings by reason."""
    row = store.rows("SELECT COUNT(*) AS stored, COALESCE(SUM(arrivals), 0) AS received FROM events")[0]
    tallies = {row["name"]: row["n"] for row in store.rows("SELECT name, n FROM tallies ORDER BY name")}
    signals = {row["signal"]: row["n"] for row in store.rows("SELECT signal, COUNT(*) n FROM telemetry GROUP BY 1")}
    return {
        "received": row["received"],
        "stored": row["stored"],
        "duplicates": row["received"] - row["stored"],
        "dropped": _tallied(tallies, "dropped:"),
        "refused": _tallied(tallies, "refused:"),
        "warnings": _tallied(tallies, "warning:"),
        "requests": tallies.get("requests", 0),
        "flag_requests": {kind: tallies.get(f"flags:{kind}", 0) for kind in FLAG_REQUESTS},
        "persons": person_count(store),
        "groups": store.rows("SELECT COUNT(*) AS n FROM groups")[0]["n"],
        "issues": store.rows(
            "SELECT COUNT(*) AS n FROM (SELECT 1 FROM events WHERE fingerprint != '' GROUP BY token, fingerprint)"
        )[0]["n"],
        "spans": signals.get("traces", 0),
        "logs": signals.get("logs", 0),
        "metrics": signals.get("metrics", 0),
        "version": store.version,
    }


def _tallied(tallies: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in tallies.items() if name.startswith(prefix)}


def _event_where(filters: Mapping[str, str]) -> tuple[str, list[Any]]:
    clauses = [_EVENT_FILTERS[key] for key in filters if key in _EVENT_FILTERS]
    values: list[Any] = [value for key, value in filters.items() if key in _EVENT_FILTERS]
    if filters.get("q"):
        clauses.append(
            "(instr(lower(e.event), lower(?)) OR instr(lower(e.distinct_id), lower(?))"
            " OR instr(lower(e.properties), lower(?)) OR e.uuid = ?)"
        )
        values += [filters["q"]] * 4
    return (" WHERE " + " AND ".join(clauses) if clauses else ""), values


def _telemetry_where(signal: str, filters: Mapping[str, str]) -> tuple[str, list[Any]]:
    clauses = ["signal = ?", *(_TELEMETRY_FILTERS[key] for key in filters if key in _TELEMETRY_FILTERS)]
    values: list[Any] = [signal, *(value for key, value in filters.items() if key in _TELEMETRY_FILTERS)]
    if filters.get("q"):
        clauses.append(
            "(instr(lower(name), lower(?)) OR instr(lower(service), lower(?)) OR instr(lower(data), lower(?))"
            " OR trace_id = ?)"
        )
        values += [filters["q"]] * 4
    return " WHERE " + " AND ".join(clauses), values


def _event(row: dict[str, Any]) -> dict[str, Any]:
    properties = json.loads(row["properties"])
    return {
        "id": row["id"],
        "token": row["token"],
        "uuid": row["uuid"],
        "event": row["event"],
        "distinct_id": row["distinct_id"],
        "timestamp": row["timestamp"],
        "day": row["day"],
        "properties": properties,
        "groups": json.loads(row["groups"]),
        "person_id": row["person_id"],
        "person_mode": row["mode"],
        "issue": row["fingerprint"] or None,
        "errors": properties.get("$cymbal_errors", []),
        "warnings": json.loads(row["warnings"]),
        "arrivals": row["arrivals"],
        "version": row["version"],
        "historical": bool(row["historical"]),
        "received_at": row["received_at"],
        "first_received_at": row["first_received_at"],
        "sent": json.loads(row["sent"]),
    }


def _person(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    ids = store.rows("SELECT distinct_id FROM person_ids WHERE person = ? ORDER BY rowid", [row["id"]])
    # Whom others were merged into is how the app knows this person; the rest are visitors and old names.
    named = store.rows(
        "SELECT e.distinct_id FROM events e JOIN person_ids i ON i.token = e.token AND i.distinct_id = e.distinct_id"
        " WHERE i.person = ? AND e.event IN ('$identify', '$create_alias', '$merge_dangerously')"
        " ORDER BY e.id DESC LIMIT 1",
        [row["id"]],
    )
    return {
        "id": row["id"],
        "token": row["token"],
        "main_id": (named or ids)[0]["distinct_id"] if ids else "",
        "distinct_ids": [item["distinct_id"] for item in ids],
        "properties": json.loads(row["properties"]),
        "identified": bool(row["identified"]),
        "created_at": row["created_at"],
        "last_seen": row["last_seen"],
        "events": row["events"],
    }
