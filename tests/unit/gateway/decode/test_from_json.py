"""The quirks of OTLP/JSON, and what becomes of wrong shapes."""

import json
import math
from typing import Any

import pytest

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import MAX_DEPTH, Decoded
from otel_posthog.gateway.decode.from_json import decode_logs_json, decode_traces_json


def request(*spans: Any, resource: Any = None) -> dict[str, Any]:
    """A traces request."""
    return {"resourceSpans": [{"resource": resource or {}, "scopeSpans": [{"spans": list(spans)}]}]}


def decoded(document: Any) -> Decoded:
    """What becomes of a traces request."""
    return decode_traces_json(document if isinstance(document, bytes) else json.dumps(document).encode())


def value_of(value: Any) -> Any:
    """The attribute value that an AnyValue in JSON becomes."""
    result = decoded(request({"attributes": [{"key": "k", "value": value}]}))
    assert (result.rejected, result.error_messages) == (0, ())
    return result.signals[0].attributes["k"]


def rejection(span: Any) -> str:
    """Why a span is rejected, beside a good one that survives."""
    result = decoded(request({"name": "before"}, span, {"name": "after"}))
    assert [signal.name for signal in result.signals] == ["before", "after"]
    assert result.rejected == 1
    (message,) = result.error_messages
    return message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"stringValue": "x"}, "x"),
        ({"stringValue": ""}, ""),
        ({"intValue": "-9223372036854775808"}, -(2**63)),
        ({"intValue": 7}, 7),
        ({"intValue": 7.0}, 7),
        ({"doubleValue": 3}, 3.0),
        ({"doubleValue": "1.5e3"}, 1500.0),
        ({"doubleValue": "Infinity"}, math.inf),
        ({"doubleValue": "-Infinity"}, -math.inf),
        ({"boolValue": False}, False),
        ({"bytesValue": "AP8="}, b"\x00\xff"),
        ({"bytesValue": "_-8"}, b"\xff\xef"),
        ({"bytesValue": ""}, b""),
        ({"arrayValue": {}}, []),
        ({"arrayValue": {"values": [{}, {"intValue": "1"}]}}, [None, 1]),
        ({"kvlistValue": {}}, {}),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"intValue": 1}}, {"key": "a"}]}}, {"a": None}),
        ({}, None),
        (None, None),
        ({"stringValue": None}, None),
        ({"stringValue": None, "intValue": "4"}, 4),
        ({"futureValue": 1}, None),
        ({"string_value": "x"}, None),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    """Every form that a value may have; unknown keys, snake_case among them, are ignored."""
    found = value_of(value)

    assert (type(found), found) == (type(expected), expected)


def test_nan() -> None:
    """`NaN` is a string in JSON; a bare one is no JSON, but what Python writes."""
    assert math.isnan(value_of({"doubleValue": "NaN"}))
    assert math.isnan(value_of({"doubleValue": math.nan}))


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (
            {"traceId": "xyz"},
            "traceId is not hexadecimal, as OTLP/JSON wants it (protobuf's own JSON has base64 there)",
        ),
        ({"spanId": 5}, "spanId is not hexadecimal, as OTLP/JSON wants it (protobuf's own JSON has base64 there)"),
        (
            {"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "7uGbfsPBsXQ="},
            "spanId is not hexadecimal, as OTLP/JSON wants it (protobuf's own JSON has base64 there)",
        ),
        ({"name": 5}, "name is not a string"),
        ({"kind": "SERVER"}, "kind is not a 64-bit integer"),
        ({"kind": True}, "kind is not a 64-bit integer"),
        ({"endTimeUnixNano": "-1"}, "endTimeUnixNano is not a 64-bit integer"),
        ({"endTimeUnixNano": "1e9"}, "endTimeUnixNano is not a 64-bit integer"),
        ({"endTimeUnixNano": 1.5}, "endTimeUnixNano is not a 64-bit integer"),
        ({"endTimeUnixNano": "٣"}, "endTimeUnixNano is not a 64-bit integer"),
        ({"endTimeUnixNano": "9" * 5000}, "endTimeUnixNano is not a 64-bit integer"),
        ({"attributes": {}}, "attributes are not a list"),
        ({"attributes": [5]}, "attribute is not an object"),
        ({"attributes": [{"key": 5}]}, "key is not a string"),
        ({"attributes": [{"key": "k", "value": "x"}]}, "a value is not an object"),
        ({"attributes": [{"key": "k", "value": {"stringValue": 5}}]}, "stringValue is not a string"),
        (
            {"attributes": [{"key": "k", "value": {"intValue": "9223372036854775808"}}]},
            "intValue is not a 64-bit integer",
        ),
        ({"attributes": [{"key": "k", "value": {"intValue": "1_0"}}]}, "intValue is not a 64-bit integer"),
        ({"attributes": [{"key": "k", "value": {"boolValue": "true"}}]}, "boolValue is neither true nor false"),
        ({"attributes": [{"key": "k", "value": {"doubleValue": "many"}}]}, "doubleValue is not a number"),
        ({"attributes": [{"key": "k", "value": {"doubleValue": 10**400}}]}, "doubleValue is not a number"),
        ({"attributes": [{"key": "k", "value": {"bytesValue": "é"}}]}, "bytesValue is not base64"),
        ({"attributes": [{"key": "k", "value": {"bytesValue": "A"}}]}, "bytesValue is not base64"),
        ({"attributes": [{"key": "k", "value": {"arrayValue": []}}]}, "arrayValue is not an object"),
        ({"attributes": [{"key": "k", "value": {"arrayValue": {"values": 1}}}]}, "arrayValue.values is not a list"),
        ({"events": {}}, "events is not a list"),
        ({"events": [{"name": "ok"}, {"name": 5}]}, "name is not a string"),
        ({"links": [None, 5]}, "links is not an object"),
        ({"status": "ok"}, "status is not an object"),
        (5, "item is not an object"),
        ("span", "item is not an object"),
    ],
)
def test_wrong_shapes(span: Any, message: str) -> None:
    """A span of the wrong shape is rejected as a whole, with its span events; its neighbours survive."""
    assert rejection(span).startswith(f"spans: {message}")


def test_enum_names_are_read() -> None:
    """OTLP/JSON forbids enum names; some emitters write them all the same, and their meaning is plain."""
    (span,) = decoded(request({"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_OK"}})).signals
    record = {"severityNumber": "SEVERITY_NUMBER_WARN3"}
    (log,) = decode_logs_json(
        json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()
    ).signals

    assert (span.span_kind, span.status_code, log.severity_number) == ("client", "ok", 15)


def test_unknown_enum_numbers() -> None:
    """A number of a later version of OTLP reads as unspecified."""
    (span,) = decoded(request({"kind": 99, "status": {"code": -1}})).signals

    assert (span.span_kind, span.status_code) == ("internal", "unset")


def test_unknown_fields_and_nulls() -> None:
    """Unknown fields are ignored everywhere, null is absent."""
    span = {
        "name": "x",
        "future": {"a": [1]},
        "attributes": None,
        "events": None,
        "links": None,
        "status": None,
        "kind": None,
    }
    document = request(span) | {"future": 1}

    assert [signal.name for signal in decoded(document).signals] == ["x"]


def test_snake_case_is_not_read() -> None:
    """Keys are lowerCamelCase only (OTLP): `trace_id` is an unknown field."""
    (span,) = decoded(request({"trace_id": "5b8efff798038103d269b633813fc60c", "name": "x"})).signals

    assert span.trace_id == ""


@pytest.mark.parametrize("depth", [MAX_DEPTH, 60, 90])
def test_nesting(depth: int) -> None:
    """Values up to the limit are read; beyond it the span is rejected, alone."""
    value: Any = {"stringValue": "x"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    result = decoded(request({"name": "deep", "attributes": [{"key": "k", "value": value}]}, {"name": "flat"}))

    assert [signal.name for signal in result.signals] == (["deep", "flat"] if depth <= MAX_DEPTH else ["flat"])
    assert result.rejected == (depth > MAX_DEPTH)


@pytest.mark.parametrize("depth", [5_000, 100_000])
def test_absurd_nesting(depth: int) -> None:
    """Nesting beyond Python's stack takes its own span with it and no other."""
    deep = '{"arrayValue":{"values":[' * depth + "]}}" * depth
    body = (
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"before \\" [ { "},'
        f'{{"name":"deep","attributes":[{{"key":"k","value":{deep}}}]}},{{"name":"after"}}]}}]}}]}}'
    )
    result = decoded(body.encode())

    assert [signal.name for signal in result.signals] == ['before " [ { ', "after"]
    assert result.rejected == 1


def test_absurd_nesting_that_is_never_closed() -> None:
    """A body of opening brackets is no request."""
    with pytest.raises(SignalError, match="the body is not JSON"):
        decoded(b'{"a":' * 100_000)


@pytest.mark.parametrize(
    "body", [b"x", b"[]", b'"x"', b"1", b'{"a":', b"{'a': 1}", b"\x0a\x02\x12\x00", b"[" * 100_000]
)
def test_no_request(body: bytes) -> None:
    """What is not a JSON object raises."""
    with pytest.raises(SignalError):
        decoded(body)


def test_invalid_utf8() -> None:
    """Bytes that are no UTF-8 become U+FFFD; the span survives and the sender is told."""
    result = decoded(json.dumps(request({"name": "caf?"})).encode().replace(b"?", b"\xe9"))

    assert [signal.name for signal in result.signals] == ["caf\ufffd"]
    assert (result.rejected, result.error_messages) == (0, ("invalid UTF-8 was replaced by U+FFFD",))


def test_lone_surrogates() -> None:
    """A lone surrogate would break every later encoder: it becomes U+FFFD. A pair is a character."""
    result = decoded(b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a\\ud83d b\\uD83D\\uDE00"}]}]}]}')

    assert [signal.name for signal in result.signals] == ["a\ufffd b\U0001f600"]
    assert result.error_messages == ("a lone surrogate was replaced by U+FFFD",)


def test_byte_order_mark() -> None:
    """A byte order mark is no content."""
    assert decoded(b"\xef\xbb\xbf{}") == Decoded()


def test_wrong_envelopes() -> None:
    """What is wrong around the items is noted; what is inside survives."""
    document = {
        "resourceSpans": [
            5,
            {"resource": 5, "scopeSpans": [{"scope": 5, "spans": [{"name": "a"}]}, None]},
            {
                "resource": {"attributes": [{"key": "good", "value": {"intValue": "1"}}, {"key": 5}]},
                "scopeSpans": [{"scope": {"name": 5, "version": "1"}, "spans": [{"name": "b"}]}],
            },
            {"scopeSpans": 7},
            {"scopeSpans": [{"spans": "none"}]},
        ]
    }
    result = decoded(document)

    assert [(signal.name, signal.resource.attributes, signal.scope.version) for signal in result.signals] == [
        ("a", {}, ""),
        ("b", {"good": 1}, "1"),
    ]
    assert result.rejected == 0
    assert result.error_messages == (
        "resourceSpans holds something other than objects",
        "scopeSpans holds something other than objects",
        "an attribute of a resource was left out: key is not a string",
        "scopeSpans is not a list",
        "spans is not a list",
    )


def test_messages_are_bounded() -> None:
    """A thousand different faults are counted exactly and described by ten."""
    result = decoded(request(*({"kind": f"bad {number}", "name": number} for number in range(1000))))

    assert result.rejected == 1000
    assert len(result.error_messages) <= 10
