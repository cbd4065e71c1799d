"""A flag evaluation on a log record or a span event -> the content of one `$feature_flag_called`.

OpenTelemetry's `feature_flag.evaluation` (and `feature_flag`, the span event of before) says which flag was asked for,
by whom, and what came out; PostHog's experiments and flag pages want the same in the words of its own SDKs.

| Property | From |
| --- | --- |
| `$feature_flag` | `feature_flag.key` |
| `$feature_flag_response`, `$feature/<key>` | the variant, else the value; none where the evaluation failed, since what the app then used is its own default |
| `$feature_flag_payload` | a value that is no variant: an object, a list, a long text |
| `$feature_flag_reason`, `$feature_flag_version` | `feature_flag.result.reason`, `feature_flag.version` |
| `$feature_flag_error` | `error.type`; `flag_missing` and `unknown_error` for OpenFeature's names of these two |
| `feature_flag_provider`, `feature_flag_set` | `feature_flag.provider.name`, `feature_flag.set.id` |

What only PostHog's evaluation knows (its flag id, its rules, the experiment) is never made up; where our own client made
the evaluation, it sends that along as `posthog.properties.$feature_flag_…`.
"""  # noqa: E501 - a table

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from otel_posthog.convert.text import clean_text
from otel_posthog.convert.values import ABSENT, Cleaner, cut_visibly, plain_text
from otel_posthog.model import Attributes, AttributeValue, JsonValue, Signal, SignalKind
from otel_posthog.semconv import otel, posthog

_MAX_TEXT: Final = 200
"""Bytes of a reason or an error, and of a variant: a longer value is a text of the app's, not a name."""
_SWITCHES: Final = {"on": True, "true": True, "enabled": True, "off": False, "false": False, "disabled": False}
"""What providers without variants of their own call the two values of a boolean flag."""
_ERRORS: Final = {"flag_not_found": "flag_missing", "general": "unknown_error"}
_SPAN: Final = SignalKind.SPAN
_LOG: Final = SignalKind.LOG


def is_flag_evaluation(signal: Signal) -> bool:
    """Whether `signal` reports the evaluation of a flag: a span event or a log record of that name."""
    if signal.name in otel.FLAG_EVENTS:
        return signal.kind is not _SPAN
    if signal.name or signal.kind is not _LOG or otel.FLAG_KEY not in signal.attributes:
        return False
    attributes = signal.attributes
    return any(isinstance(name := attributes.get(key), str) and name in otel.FLAG_EVENTS for key in otel.EVENT_NAME)


def is_posthogs_own(attributes: Attributes) -> bool:
    """Whether PostHog's own provider made the evaluation: its client sends the `$feature_flag_called` itself.

    Its names are `PostHogProvider` (Python) and variations of it in other languages; ours is another one.
    """
    provider = _first(attributes, otel.FLAG_PROVIDER)
    return isinstance(provider, str) and provider.strip().lower().startswith("posthog")


def flag_key(signal: Signal) -> str:
    """Key of the flag that `signal` is about, "" where it does not say."""
    key = signal.attributes.get(otel.FLAG_KEY)
    return clean_text(str.__str__(key)).strip() if isinstance(key, str) else ""


def flag_properties(signal: Signal, cleaner: Cleaner) -> dict[str, JsonValue]:
    """The properties of the `$feature_flag_called` for `signal`, which has a flag's key."""
    attributes = signal.attributes
    key = cleaner.text(flag_key(signal), posthog.FLAG_PROPERTY)
    properties: dict[str, JsonValue] = {posthog.FLAG_PROPERTY: key}
    error = _error(attributes)
    if error:
        properties["$feature_flag_error"] = error
    else:
        response, payload = _answer(attributes, signal.body)
        if response is not None:
            properties[posthog.FLAG_RESPONSE_PROPERTY] = response
            properties[cleaner.key(posthog.FEATURE_PREFIX + key)] = response
        if payload is not None:
            cleaned = cleaner.value(payload, "$feature_flag_payload")
            if cleaned is not ABSENT:
                properties["$feature_flag_payload"] = cleaned
    for name, value in (
        ("$feature_flag_reason", _first(attributes, otel.FLAG_REASON)),
        ("$feature_flag_version", attributes.get(otel.FLAG_VERSION)),
        ("feature_flag_provider", _first(attributes, otel.FLAG_PROVIDER)),
        ("feature_flag_set", attributes.get(otel.FLAG_SET_ID)),
    ):
        if value is not None and value != "":
            properties[name] = _version(value) if name == "$feature_flag_version" else _short(value)
    for name, value in properties.items():
        cleaner.weight += len(name) + (len(value) if isinstance(value, str) else 4)
    return properties


def _answer(attributes: Attributes, body: AttributeValue) -> tuple[bool | str | None, AttributeValue]:
    """(what PostHog calls the response, a payload); `None` for either that is not there."""
    value = _value(attributes, body)
    variant = _first(attributes, otel.FLAG_VARIANT)
    if isinstance(variant, (str, int, float)) and not isinstance(variant, bool) and variant != "":
        name = _short(variant)
        # Emitters give the value of a boolean flag beside its variant or leave it out: both must come out the same.
        response = _SWITCHES.get(name.lower(), name) if value is None or isinstance(value, bool) else name
        return response, _payload(value)
    if value is None:
        return (variant, None) if isinstance(variant, bool) else (None, None)
    if isinstance(value, bool):
        return value, None
    if isinstance(value, (str, int, float)):
        text = plain_text(value)
        if text and len(text) <= _MAX_TEXT:
            return text, None
        return (True, text) if text else (None, None)
    return True, value


def _value(attributes: Attributes, body: AttributeValue) -> AttributeValue:
    """`feature_flag.result.value`, unpacked where it is JSON; older emitters have it in the body."""
    value: Any = attributes.get(otel.FLAG_VALUE)
    if value is None and isinstance(body, Mapping):
        value = cast("Mapping[str, Any]", body).get("value")
    if isinstance(value, str):
        # OpenFeature's hook writes every value as JSON; others write texts as they are.
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return value


def _payload(value: AttributeValue) -> AttributeValue:
    return cast("object", value) if isinstance(value, (Mapping, list, tuple)) else None


def _error(attributes: Attributes) -> str:
    """Why the evaluation has no answer, "" where it has one."""
    kind = attributes.get(otel.ERROR_TYPE)
    if isinstance(kind, str) and kind.strip():
        said = _short(kind).lower()
        return _ERRORS.get(said, said)
    reason = _first(attributes, otel.FLAG_REASON)
    failed = isinstance(reason, str) and reason.strip().lower() == "error"
    return "unknown_error" if failed else ""


def _version(value: AttributeValue) -> JsonValue:
    text = _short(value)
    # PostHog's versions are numbers; OpenTelemetry has room for other systems' texts.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text


def _short(value: AttributeValue) -> str:
    return cut_visibly(plain_text(value).strip(), _MAX_TEXT)


def _first(attributes: Attributes, keys: tuple[str, ...]) -> AttributeValue:
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            return value
    return None
