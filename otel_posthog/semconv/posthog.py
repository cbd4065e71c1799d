"""PostHog names: the tags that we read on telemetry (DESIGN §3) and the events and properties that we write.

No behaviour.
"""

from __future__ import annotations

from typing import Final

# Tags: attributes on spans, span events, log records; on the resource they are defaults for all its items.
PREFIX: Final = "posthog."
EVENT: Final = "posthog.event"
DISTINCT_ID: Final = "posthog.distinct_id"
PROPERTIES: Final = "posthog.properties."
SET: Final = "posthog.set."
SET_ONCE: Final = "posthog.set_once."
UNSET: Final = "posthog.unset"
GROUPS: Final = "posthog.groups."
GROUP_SET: Final = "posthog.group_set."
ALIAS: Final = "posthog.alias"
ANON_DISTINCT_ID: Final = "posthog.anon_distinct_id"
SESSION_ID: Final = "posthog.session_id"
WINDOW_ID: Final = "posthog.window_id"
PROCESS_PERSON_PROFILE: Final = "posthog.process_person_profile"
IGNORE: Final = "posthog.ignore"
ON: Final = "posthog.on"
TIER: Final = "posthog.tier"
PAGE_VIEW: Final = "posthog.page_view"
"""On a server span: who captures the page view, where that is not the server (`browser`)."""
UUID: Final = "posthog.uuid"
CARRIER: Final = "posthog.carrier"
PROPERTIES_JSON: Final = "posthog.properties_json"
"""JSON object of further properties, for emitters near the 128-attribute limit."""
TRACE_SAMPLED: Final = "posthog.trace_sampled"
"""The sampling stamp: a bool set in process."""
DEPLOYMENT_METHOD: Final = "posthog.deployment_method"
"""Resource attribute: how the service runs (`docker`, `kubernetes`, `native`); set at the SDK edge."""
TIMEZONE: Final = "posthog.timezone"
"""Resource attribute: IANA name of the process's time zone; set at the SDK edge."""

CARRIER_LOG: Final = "log"
"""`posthog.carrier` of a log record that is a finished event: rebuilt as it is, enriched no more."""
CARRIER_BRIDGE: Final = "bridge"
"""`posthog.carrier` of telemetry whose process delivers the product data itself: `bridge`, or `bridge:<digest>` with
the digest of the rules that it loaded."""

# What PostHog's own integrations put on telemetry.
POSTHOG_DISTINCT_ID: Final = "posthogDistinctId"
POSTHOG_SESSION_ID: Final = "sessionId"

# Properties that we write.
LIB_NAME: Final = "otel-posthog"
PERSON_SET: Final = "$set"
PERSON_SET_ONCE: Final = "$set_once"
PERSON_UNSET: Final = "$unset"
GROUPS_PROPERTY: Final = "$groups"
SESSION_PROPERTY: Final = "$session_id"
WINDOW_PROPERTY: Final = "$window_id"
PERSON_PROFILE_PROPERTY: Final = "$process_person_profile"
TRACE_PROPERTY: Final = "$trace_id"
SPAN_PROPERTY: Final = "$span_id"
OTHER_SESSION_PROPERTY: Final = "session_id"
"""A session id that is no UUIDv7: PostHog's session tables would not take it as `$session_id`."""
FEATURE_PREFIX: Final = "$feature/"
"""Before a flag's key: the property that says which value of the flag an event happened under."""
ACTIVE_FLAGS_PROPERTY: Final = "$active_feature_flags"
"""Keys of the flags among them that are not false, sorted."""
FLAG_PROPERTY: Final = "$feature_flag"
FLAG_RESPONSE_PROPERTY: Final = "$feature_flag_response"
FLAG_PROVIDER: Final = "otel-posthog"
"""`feature_flag.provider.name` of evaluations that this package's own client made."""
CUT_PROPERTY: Final = "otel_posthog_cut"
"""Names of the properties that were shortened or left out for size."""

SERVER_DERIVED: Final = frozenset(
    {
        "$exception_types",
        "$exception_values",
        "$exception_sources",
        "$exception_functions",
        "$exception_handled",
        "$exception_fingerprint_version",
        "$exception_fingerprint_record",
        "$exception_issue_id",
        "$exception_release",
        "$cymbal_errors",
    }
)
"""PostHog makes these itself; a producer must not send them."""

# Events that we write.
EVENT_SET: Final = "$set"
EVENT_IDENTIFY: Final = "$identify"
EVENT_GROUP_IDENTIFY: Final = "$groupidentify"
EVENT_CREATE_ALIAS: Final = "$create_alias"
EVENT_EXCEPTION: Final = "$exception"
EVENT_FLAG_CALLED: Final = "$feature_flag_called"
EVENT_EXPERIMENT_EXPOSURE: Final = "$experiment_exposure"

ILLEGAL_DISTINCT_IDS: Final = frozenset(
    f"{quote}{word}{quote}"
    for quote in ("", "'", '"')
    for word in (
        "0",
        "00000000-0000-0000-0000-000000000000",
        "[object object]",
        "anonymous",
        "anonymous-user",
        "backend",
        "distinct_id",
        "distinctid",
        "email",
        "false",
        "guest",
        "id",
        "nan",
        "none",
        "not_authenticated",
        "null",
        "system",
        "true",
        "undefined",
        "user",
    )
)
"""Compared lower-case and stripped; PostHog refuses person processing for them (capture v1; merges: in quotes, too)."""

MAX_NAME_BYTES: Final = 200
MAX_EVENT_NAMES: Final = 100
"""Events that one item may name; ours."""
MAX_DISTINCT_ID_BYTES: Final = 200
MAX_EVENT_BYTES: Final = 900 * 1024
"""PostHog's Kafka cap is 1,000,000 bytes; its own SDK stops at 900 KiB to leave room for the envelope."""
MAX_GROUP_TYPES: Final = 5
MAX_EXCEPTIONS: Final = 50
