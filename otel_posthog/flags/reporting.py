"""What the SDK would send about an evaluation -> a record of our own lane.

`$feature_flag_called` becomes OpenTelemetry's `feature_flag.evaluation`, which the converter makes the same event of
again (in collector mode it is a finished event by then); `$experiment_exposure` is captured as it is. The SDK decides
what is worth an event, and what is known about it: its properties are passed on whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from otel_posthog.lane.now import now_ns
from otel_posthog.lane.uuids import uuid7
from otel_posthog.semconv import otel, posthog

if TYPE_CHECKING:
    from otel_posthog.lane.emitter import Emitter


def report(message: Mapping[str, Any], emitter: Emitter) -> None:
    """Hands over an event of the SDK's flag client.

    Args:
        message: As the SDK would have queued it.
        emitter: Where to.
    """
    name = message.get("event")
    said = cast("dict[str, Any]", message.get("properties") or {})
    distinct_id = str(message.get("distinct_id") or "")
    properties = {key: value for key, value in said.items() if _is_about_flags(key) and value is not None}
    moment = now_ns()
    attributes: dict[str, Any] = {posthog.DISTINCT_ID: distinct_id, posthog.UUID: uuid7(moment)}
    groups = cast("dict[str, Any]", said.get(posthog.GROUPS_PROPERTY) or {})
    for kind, key in groups.items():
        attributes[posthog.GROUPS + kind] = key
    if name == posthog.EVENT_EXPERIMENT_EXPOSURE:
        attributes[posthog.EVENT] = name
        emitter.emit(name, attributes, properties=properties, time_ns=moment)
    elif name == posthog.EVENT_FLAG_CALLED:
        attributes.update(_evaluation(properties, distinct_id))
        emitter.emit("feature_flag.evaluation", attributes, properties=properties, time_ns=moment)


def _evaluation(properties: Mapping[str, Any], distinct_id: str) -> dict[str, Any]:
    """The attributes of OpenTelemetry's event."""
    response = properties.get(posthog.FLAG_RESPONSE_PROPERTY)
    found: dict[str, Any] = {
        otel.FLAG_KEY: properties.get(posthog.FLAG_PROPERTY, ""),
        otel.FLAG_PROVIDER[0]: posthog.FLAG_PROVIDER,
        otel.FLAG_CONTEXT_ID: distinct_id,
    }
    if isinstance(response, str):
        found[otel.FLAG_VARIANT[0]] = response
    elif response is not None:
        found[otel.FLAG_VALUE] = response
    if response is None:
        found[otel.FLAG_REASON[0]] = "error"
        found[otel.ERROR_TYPE] = properties.get("$feature_flag_error") or "unknown_error"
    else:
        found[otel.FLAG_REASON[0]] = "targeting_match" if response else "default"
    if (version := properties.get("$feature_flag_version")) is not None:
        found[otel.FLAG_VERSION] = str(version)
    return found


def _is_about_flags(name: str) -> bool:
    return name.startswith((posthog.FLAG_PROPERTY, posthog.FEATURE_PREFIX)) or name == "locally_evaluated"
