"""What is set so that the standard exporters work with the two variables alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from otel_posthog.config.otlp_environment import standard_otlp_environment

E = "OTEL_EXPORTER_OTLP_"
TOKEN = {f"{E}TOKEN": "phc_T"}
AUTH = "authorization=Bearer%20phc_T"
CAPTURE = {
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-posthog-distinct-id,x-posthog-session-id",
}
HTTP = "http/protobuf"

CASES: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("PostHog", {f"{E}ENDPOINT": "https://eu.i.posthog.com/i"}, {f"{E}HEADERS": AUTH, f"{E}PROTOCOL": HTTP}),
    (
        "PostHog without /i",
        {f"{E}ENDPOINT": "https://eu.i.posthog.com/"},
        {f"{E}ENDPOINT": "https://eu.i.posthog.com/i", f"{E}HEADERS": AUTH, f"{E}PROTOCOL": HTTP},
    ),
    (
        "the app host, plain http, a signal's path on the base",
        {f"{E}ENDPOINT": "http://us.posthog.com/i/v1/traces"},
        {f"{E}ENDPOINT": "https://us.i.posthog.com/i", f"{E}HEADERS": AUTH, f"{E}PROTOCOL": HTTP},
    ),
    (
        "PostHog's own AI endpoint is left alone",
        {f"{E}ENDPOINT": "https://us.i.posthog.com/i/v0/ai/otel"},
        {f"{E}HEADERS": AUTH, f"{E}PROTOCOL": HTTP},
    ),
    (
        "signals' own endpoints lacking their path",
        {
            f"{E}TRACES_ENDPOINT": "https://eu.i.posthog.com/i",
            f"{E}LOGS_ENDPOINT": "https://eu.i.posthog.com/i/v1/logs",
        },
        {
            f"{E}TRACES_ENDPOINT": "https://eu.i.posthog.com/i/v1/traces",
            f"{E}TRACES_HEADERS": AUTH,
            f"{E}LOGS_HEADERS": AUTH,
            f"{E}TRACES_PROTOCOL": HTTP,
            f"{E}LOGS_PROTOCOL": HTTP,
        },
    ),
    (
        "a self-hosted PostHog by declaration",
        {f"{E}ENDPOINT": "https://ph.example.com", "OTEL_POSTHOG_MODE": "direct"},
        {f"{E}ENDPOINT": "https://ph.example.com/i", f"{E}HEADERS": AUTH, f"{E}PROTOCOL": HTTP},
    ),
    (
        "a Collector over HTTP",
        {f"{E}ENDPOINT": "http://c:4318"},
        {
            f"{E}HEADERS": AUTH,
            f"{E}PROTOCOL": HTTP,
            "OTEL_RESOURCE_ATTRIBUTES": "posthog.carrier=d1",
        },
    ),
    (
        "a Collector over gRPC",
        {f"{E}ENDPOINT": "http://c:4317", "OTEL_RESOURCE_ATTRIBUTES": "a=b,posthog.carrier=old, c=d"},
        {f"{E}HEADERS": AUTH, "OTEL_RESOURCE_ATTRIBUTES": "a=b, c=d,posthog.carrier=d1"},
    ),
    (
        "a protocol of one's own choosing",
        {f"{E}ENDPOINT": "http://c:4318", f"{E}PROTOCOL": "grpc"},
        {f"{E}HEADERS": AUTH, "OTEL_RESOURCE_ATTRIBUTES": "posthog.carrier=d1"},
    ),
    (
        "entries are kept",
        {f"{E}ENDPOINT": "https://eu.i.posthog.com/i", f"{E}HEADERS": "x=1, y=a%2Cb,", f"{E}PROTOCOL": HTTP},
        {f"{E}HEADERS": f"x=1, y=a%2Cb,{AUTH}"},
    ),
    (
        "a user's own authorization is kept",
        {f"{E}ENDPOINT": "http://c:4318", f"{E}HEADERS": "Authorization=Basic%20x", f"{E}PROTOCOL": HTTP},
        {"OTEL_RESOURCE_ATTRIBUTES": "posthog.carrier=d1"},
    ),
    (
        "a signal's own headers replace the general ones",
        {
            f"{E}ENDPOINT": "https://eu.i.posthog.com/i",
            f"{E}HEADERS": "g=1",
            f"{E}LOGS_HEADERS": "l=1",
            f"{E}PROTOCOL": HTTP,
        },
        {f"{E}HEADERS": f"g=1,{AUTH}", f"{E}LOGS_HEADERS": f"l=1,{AUTH}"},
    ),
    (
        "PostHog for logs alone: a stranger gets neither token nor protocol",
        {
            f"{E}ENDPOINT": "https://api.honeycomb.io:4317",
            f"{E}HEADERS": "x-honeycomb-team=t",
            f"{E}LOGS_ENDPOINT": "https://us.i.posthog.com/i/v1/logs",
        },
        {f"{E}LOGS_HEADERS": f"x-honeycomb-team=t,{AUTH}", f"{E}LOGS_PROTOCOL": HTTP},
    ),
    (
        "one signal at a Collector: the others' default addresses get no token",
        {f"{E}TRACES_ENDPOINT": "http://c:4318/v1/traces"},
        {
            f"{E}TRACES_HEADERS": AUTH,
            f"{E}TRACES_PROTOCOL": HTTP,
            "OTEL_RESOURCE_ATTRIBUTES": "posthog.carrier=d1",
        },
    ),
    (
        "two Collectors: the token goes to the lane's alone",
        {
            f"{E}TRACES_ENDPOINT": "http://tempo:4318/v1/traces",
            f"{E}LOGS_ENDPOINT": "http://c:4318/v1/logs",
            f"{E}PROTOCOL": HTTP,
        },
        {f"{E}LOGS_HEADERS": AUTH, "OTEL_RESOURCE_ATTRIBUTES": "posthog.carrier=d1"},
    ),
]


@pytest.mark.parametrize(("environ", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases(environ: dict[str, str], expected: dict[str, str]) -> None:
    """Exactly these variables are set, and a second time none."""
    before = {**TOKEN, **environ}

    wanted = standard_otlp_environment(before, digest="d1")

    assert {**expected, **CAPTURE} == wanted
    assert standard_otlp_environment({**before, **wanted}, digest="d1") == {}


def test_schemes_of_a_token() -> None:
    """PostHog takes Bearer only; a Collector gets the scheme that its owner wrote."""
    basic = {f"{E}TOKEN": "Basic bWU6cGhjX1Q=", f"{E}PROTOCOL": HTTP}

    direct = standard_otlp_environment({**basic, f"{E}ENDPOINT": "https://eu.i.posthog.com/i"})
    collector = standard_otlp_environment({**basic, f"{E}ENDPOINT": "http://c:4318"})

    assert {f"{E}HEADERS": AUTH, **CAPTURE} == direct
    assert {f"{E}HEADERS": "authorization=Basic%20bWU6cGhjX1Q%3D", **CAPTURE} == collector


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {f"{E}ENDPOINT": "https://eu.i.posthog.com/i"},
        {f"{E}ENDPOINT": "https://api.honeycomb.io", f"{E}HEADERS": "authorization=Bearer x"},
        {**TOKEN, f"{E}ENDPOINT": "https://eu.i.posthog.com/i", "OTEL_SDK_DISABLED": "true"},
        {**TOKEN, f"{E}ENDPOINT": "https://eu.i.posthog.com/i", "OTEL_POSTHOG_ENABLED": "false"},
        {**TOKEN, f"{E}ENDPOINT": "https://eu.i.posthog.com/i", "OTEL_POSTHOG_QUEUE_SIZE": "x"},
        {**TOKEN, f"{E}ENDPOINT": "localhost:4318"},
    ],
)
def test_nothing_while_the_gate_is_shut(environ: dict[str, str]) -> None:
    """Off, or wrong: the environment stays as it is."""
    assert standard_otlp_environment(environ, digest="d1") == {}


def test_captured_headers_are_appended() -> None:
    """What was captured before still is; nothing is said where it already is, or where headers are not trusted."""
    name = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST"
    on = {**TOKEN, f"{E}ENDPOINT": "http://127.0.0.1:1/i", f"{E}HEADERS": AUTH, f"{E}PROTOCOL": HTTP}

    assert {name: "accept,X-PostHog-Session-Id,x-posthog-distinct-id"} == standard_otlp_environment(
        {**on, name: "accept,X-PostHog-Session-Id, "}
    )
    assert standard_otlp_environment({**on, name: ".*"}) == {}
    assert standard_otlp_environment({**on, "OTEL_POSTHOG_TRUST_HEADERS": "false"}) == {}


ENDPOINTS = ["", "https://eu.i.posthog.com/i", "https://us.posthog.com", "http://127.0.0.1:1/i", "http://c:4318",
             "http://c:4317", "https://api.honeycomb.io", "c:4317"]  # fmt: skip
HEADER_TEXTS = ["", "x=1", "authorization=Bearer%20own", "x=1,authorization=Basic own ,"]


@given(
    st.fixed_dictionaries(
        {
            f"{E}{prefix}{name}": st.sampled_from(values)
            for prefix in ("", "TRACES_", "LOGS_", "METRICS_")
            for name, values in (
                ("ENDPOINT", [each + (f"/v1/{prefix[:-1].lower()}" if prefix and each else "") for each in ENDPOINTS]),
                ("HEADERS", HEADER_TEXTS),
                ("PROTOCOL", ["", "grpc", HTTP]),
            )
        }
        | {"OTEL_POSTHOG_MODE": st.sampled_from(["", "direct", "collector"])}
        | {"OTEL_POSTHOG_SINK": st.sampled_from(["", "both"])}
    )
)
def test_idempotent_and_careful(environ: dict[str, str]) -> None:
    """In any mixture: a second time changes nothing, nothing of a user's is lost, and no stranger gets the token."""
    from opentelemetry.util.re import parse_env_headers

    before = {**TOKEN, **environ}
    wanted = standard_otlp_environment(before, digest="d1")
    after = {**before, **wanted}

    assert standard_otlp_environment(after, digest="d1") == {}
    for prefix in ("", "TRACES_", "LOGS_", "METRICS_"):
        headers = f"{E}{prefix}HEADERS"
        old, new = parse_env_headers(before[headers], liberal=True), parse_env_headers(after[headers], liberal=True)
        assert old.items() <= new.items()
        assert before[f"{E}{prefix}PROTOCOL"] in ("", after[f"{E}{prefix}PROTOCOL"])
    hosts_with_token = {
        after.get(f"{E}{signal}_ENDPOINT") or after.get(f"{E}ENDPOINT") or "localhost"
        for signal in ("TRACES", "LOGS", "METRICS")
        if "phc_T" in (after[f"{E}{signal}_HEADERS"] or after[f"{E}HEADERS"])
    }
    at_posthog = {host for host in hosts_with_token if "posthog" in host or "127.0.0.1" in host}
    # An endpoint of gRPC may have a path and no scheme.
    assert len({host.rpartition("//")[2].partition("/")[0] for host in hosts_with_token}) <= 2
    if at_posthog and before["OTEL_POSTHOG_MODE"] == "":
        assert hosts_with_token == at_posthog
    assert "localhost" not in hosts_with_token


def test_the_real_exporters_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own exporters, built from that environment, would send to PostHog with the key."""
    environ = {**TOKEN, f"{E}ENDPOINT": "https://eu.posthog.com"}
    for name, value in {**environ, **standard_otlp_environment(environ)}.items():
        monkeypatch.setenv(name, value)
    exporters: list[Any] = [OTLPSpanExporter(), OTLPLogExporter()]

    assert [exporter._endpoint for exporter in exporters] == [
        "https://eu.i.posthog.com/i/v1/traces",
        "https://eu.i.posthog.com/i/v1/logs",
    ]
    # In older SDKs the exporter is its own client.
    clients = [getattr(exporter, "_client", exporter) for exporter in exporters]
    assert [client._headers["authorization"] for client in clients] == ["Bearer phc_T"] * 2
    for exporter in exporters:
        exporter.shutdown()
