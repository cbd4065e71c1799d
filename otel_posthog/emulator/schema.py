"""The tables of the emulator.

events         one row per (token, UTC day, event, distinct_id, uuid): PostHog's de-duplication key (§1.8)
persons        one row per person; person_ids maps each distinct id to its person
groups         one row per (token, type, key); group_types in order of appearance, at most five per token
hash_keys      what is hashed in place of a distinct id, by flag: experience continuity
telemetry      OTLP spans, log records and metrics, one row each
refusals       what was refused or dropped, newest last, bounded
tallies        counts by reason that survive the bound of `refusals`
"""

from __future__ import annotations

VERSION = 1

TABLES = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  token TEXT NOT NULL, day TEXT NOT NULL, event TEXT NOT NULL, distinct_id TEXT NOT NULL, uuid TEXT NOT NULL,
  timestamp TEXT NOT NULL, properties TEXT NOT NULL, sent TEXT NOT NULL, groups TEXT NOT NULL, mode TEXT NOT NULL,
  version TEXT NOT NULL, historical INTEGER NOT NULL, fingerprint TEXT NOT NULL, warnings TEXT NOT NULL,
  received_at TEXT NOT NULL, first_received_at TEXT NOT NULL, arrivals INTEGER NOT NULL DEFAULT 1,
  UNIQUE (token, day, event, distinct_id, uuid)
);
CREATE INDEX IF NOT EXISTS events_by_uuid ON events (uuid);
CREATE INDEX IF NOT EXISTS events_by_person ON events (token, distinct_id);
CREATE INDEX IF NOT EXISTS events_by_fingerprint ON events (fingerprint) WHERE fingerprint != '';
CREATE TABLE IF NOT EXISTS persons (
  id TEXT PRIMARY KEY, token TEXT NOT NULL, created_at TEXT NOT NULL, properties TEXT NOT NULL,
  identified INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS person_ids (
  token TEXT NOT NULL, distinct_id TEXT NOT NULL, person TEXT NOT NULL,
  PRIMARY KEY (token, distinct_id)
);
CREATE INDEX IF NOT EXISTS person_ids_by_person ON person_ids (person);
CREATE TABLE IF NOT EXISTS group_types (
  token TEXT NOT NULL, type TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (token, type)
);
CREATE TABLE IF NOT EXISTS groups (
  token TEXT NOT NULL, type TEXT NOT NULL, key TEXT NOT NULL, properties TEXT NOT NULL, created_at TEXT NOT NULL,
  identified INTEGER NOT NULL, PRIMARY KEY (token, type, key)
);
CREATE TABLE IF NOT EXISTS hash_keys (
  token TEXT NOT NULL, distinct_id TEXT NOT NULL, flag TEXT NOT NULL, hash_key TEXT NOT NULL,
  PRIMARY KEY (token, distinct_id, flag)
);
CREATE TABLE IF NOT EXISTS telemetry (
  id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL, signal TEXT NOT NULL, name TEXT NOT NULL,
  service TEXT NOT NULL, time_ns INTEGER NOT NULL, trace_id TEXT NOT NULL, span_id TEXT NOT NULL,
  distinct_id TEXT NOT NULL, session_id TEXT NOT NULL, data TEXT NOT NULL, received_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS telemetry_by_signal ON telemetry (signal, id);
CREATE INDEX IF NOT EXISTS telemetry_by_trace ON telemetry (trace_id) WHERE trace_id != '';
CREATE TABLE IF NOT EXISTS refusals (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, path TEXT NOT NULL, status INTEGER NOT NULL,
  reason TEXT NOT NULL, detail TEXT NOT NULL, events INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS tallies (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
"""

NAMES = ("events", "persons", "person_ids", "group_types", "groups", "hash_keys", "telemetry", "refusals", "tallies")
