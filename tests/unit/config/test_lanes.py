"""Which endpoint is whose, and which lanes follow."""

from __future__ import annotations

import pytest

from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import Lane, Mode, Secret, Settings
from otel_posthog.errors import ConfigError

KEY = "phc_Lane0123456789"
TOKEN = {"OTEL_EXPORTER_OTLP_TOKEN": KEY}
BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
LOGS = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
METRICS = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
MODE = "OTEL_POSTHOG_MODE"
D, C = Mode.DIRECT, Mode.COLLECTOR


def load(**environ: str) -> Settings:
    """Settings with a token."""
    return load_settings({**TOKEN, **environ})


def lane(settings: Settings) -> tuple[Mode, str]:
    """Mode and address of the product lane."""
    assert settings.lane is not None, settings.reason
    return settings.lane.mode, settings.lane.url


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://us.i.posthog.com/i", "https://us.i.posthog.com"),
        ("https://us.i.posthog.com/i/", "https://us.i.posthog.com"),
        ("https://us.i.posthog.com", "https://us.i.posthog.com"),
        ("https://us.i.posthog.com//", "https://us.i.posthog.com"),
        ("https://EU.I.PostHog.com/i", "https://eu.i.posthog.com"),
        ("https://eu.i.posthog.com:443/i", "https://eu.i.posthog.com"),
        ("https://eu.i.posthog.com:4318/i", "https://eu.i.posthog.com"),
        ("https://eu.i.posthog.com:8443/i", "https://eu.i.posthog.com:8443"),
        ("https://eu.i.posthog.com./i", "https://eu.i.posthog.com"),
        ("HTTPS://eu.i.posthog.com/i/v1/traces", "https://eu.i.posthog.com"),
        ("https://eu.i.posthog.com/batch/", "https://eu.i.posthog.com"),
        ("http://eu.i.posthog.com/i", "https://eu.i.posthog.com"),
        ("https://us.posthog.com/i", "https://us.i.posthog.com"),
        ("https://app.posthog.com", "https://us.i.posthog.com"),
        ("https://eu.posthog.com:443/", "https://eu.i.posthog.com"),
        ("https://proxy.posthog.com/i", "https://proxy.posthog.com"),
        ("http://127.0.0.1:8765/i", "http://127.0.0.1:8765"),
        ("http://127.0.0.1:8765/i/", "http://127.0.0.1:8765"),
        ("http://[::1]:8765/i", "http://[::1]:8765"),
        ("https://example.com/ingest/i", "https://example.com/ingest"),
        ("https://me:secret@example.com/i?token=x", "https://example.com"),
    ],
)
def test_capture_hosts(endpoint: str, host: str) -> None:
    """Every way to write PostHog's endpoint leads to its capture host, and to direct mode everywhere."""
    settings = load(**{BASE: endpoint})

    assert (D, host) == lane(settings)
    assert (settings.traces_mode, settings.logs_mode) == (D, D)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({BASE: "http://otelcol:4318"}, "http://otelcol:4318/v1/logs"),
        ({BASE: "http://otelcol:4318/"}, "http://otelcol:4318/v1/logs"),
        ({BASE: "https://otel.example.com/otlp"}, "https://otel.example.com/otlp/v1/logs"),
        ({BASE: "https://otel.example.com/otlp?tenant=1"}, "https://otel.example.com/otlp/v1/logs?tenant=1"),
        ({BASE: "http://[::1]:4318"}, "http://[::1]:4318/v1/logs"),
        ({BASE: "http://otelcol:80"}, "http://otelcol/v1/logs"),
        ({BASE: "http://otelcol:4318/v1/traces"}, "http://otelcol:4318/v1/logs"),
        ({LOGS: "http://otelcol:4318/my/own?x=1"}, "http://otelcol:4318/my/own?x=1"),
        ({LOGS: "http://otelcol:4318/v1/logs/"}, "http://otelcol:4318/v1/logs/"),
        ({BASE: "http://a:4318", LOGS: "http://b:4318/v1/logs"}, "http://b:4318/v1/logs"),
        ({TRACES: "http://otelcol:4318/v1/traces"}, "http://otelcol:4318/v1/logs"),
        ({TRACES: "http://otelcol:4318/p/v1/traces/"}, "http://otelcol:4318/p/v1/logs"),
        ({METRICS: "http://otelcol:4318/v1/metrics"}, "http://otelcol:4318/v1/logs"),
        # gRPC: the HTTP port beside it
        ({BASE: "http://otelcol:4317"}, "http://otelcol:4318/v1/logs"),
        ({BASE: "https://otelcol:4317"}, "https://otelcol:4318/v1/logs"),
        ({BASE: "http://otelcol", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://otelcol:4318/v1/logs"),
        ({BASE: "http://otelcol:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://otelcol:4318/v1/logs"),
        ({TRACES: "http://otelcol:4317"}, "http://otelcol:4318/v1/logs"),
        ({LOGS: "http://otelcol:4317/v1/logs"}, "http://otelcol:4318/v1/logs"),
        # without a scheme gRPC's own rule holds
        ({BASE: "otelcol:4317"}, "https://otelcol:4318/v1/logs"),
        ({BASE: "otelcol:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, "http://otelcol:4318/v1/logs"),
        ({BASE: "otelcol:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "https://otelcol:4318/v1/logs"),
        # neither are these PostHog's
        ({BASE: "https://posthog.com.example.net"}, "https://posthog.com.example.net/v1/logs"),
        ({BASE: "https://example.com/ii"}, "https://example.com/ii/v1/logs"),
        # a mode of one's own choosing
        ({BASE: "http://127.0.0.1:9/i", MODE: "collector"}, "http://127.0.0.1:9/i/v1/logs"),
        (
            {BASE: "http://a:4318", LOGS: "https://us.i.posthog.com/i/v1/logs", MODE: "COLLECTOR"},
            "http://a:4318/v1/logs",
        ),
    ],
)
def test_collector_addresses(environ: dict[str, str], url: str) -> None:
    """A Collector's logs address follows from whichever endpoint there is."""
    assert (C, url) == lane(load(**environ))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({BASE: "http://otelcol:4318"}, (C, C, C)),
        ({BASE: "http://otelcol:4318", LOGS: "https://eu.i.posthog.com/i/v1/logs"}, (D, C, D)),
        ({BASE: "https://eu.i.posthog.com/i", TRACES: "http://tempo:4318/v1/traces"}, (D, C, D)),
        ({TRACES: "https://eu.i.posthog.com/i/v1/traces"}, (D, D, None)),
        ({LOGS: "http://127.0.0.1:8765/i/v1/logs"}, (D, None, D)),
        ({BASE: "http://otelcol:4318", METRICS: "https://eu.i.posthog.com/i/v1/metrics"}, (D, C, C)),
        ({BASE: "http://otelcol:4318", LOGS: "https://eu.i.posthog.com/i/v1/logs", MODE: "collector"}, (C, C, D)),
        ({BASE: "https://ph.example.com", MODE: "direct"}, (D, D, D)),
        ({BASE: "https://ph.example.com", TRACES: "http://tempo:4318/v1/traces", MODE: "direct"}, (D, C, D)),
        ({BASE: "https://eu.i.posthog.com/i", "OTEL_TRACES_EXPORTER": "none"}, (D, None, D)),
        ({BASE: "https://eu.i.posthog.com/i", "OTEL_LOGS_EXPORTER": "console"}, (D, D, None)),
        ({BASE: "https://eu.i.posthog.com/i", "OTEL_LOGS_EXPORTER": "console, otlp_proto_http"}, (D, D, D)),
    ],
)
def test_modes_per_signal(environ: dict[str, str], expected: tuple[Mode, Mode | None, Mode | None]) -> None:
    """Each signal's own endpoint decides its own mode; product data is direct if any endpoint is PostHog's."""
    settings = load(**environ)

    assert expected == (lane(settings)[0], settings.traces_mode, settings.logs_mode)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({BASE: "localhost:4318"}, ["OTEL_EXPORTER_OTLP_ENDPOINT", "Write http://localhost:4318"]),
        ({BASE: "us.i.posthog.com/i"}, ["Write https://us.i.posthog.com/i"]),
        ({BASE: "http://"}, ["names no host"]),
        ({BASE: "http://host:port"}, ["no address"]),
        ({BASE: "http://host:99999"}, ["no address"]),
        ({BASE: "http://[::1"}, ["no address"]),
        ({BASE: "http://a b"}, ["names no host"]),
        ({BASE: "ftp://host"}, ["'ftp' is not known"]),
        ({BASE: "two words"}, ["no address"]),
        ({TRACES: "http://otelcol:4318/custom"}, [TRACES, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT as well"]),
        ({BASE: "https://us.i.posthog.com/i", MODE: "collector"}, [MODE, "every endpoint is PostHog's"]),
        ({BASE: "https://us.i.posthog.com/i", "OTEL_POSTHOG_SINK": "both"}, ["none is at a Collector"]),
        ({BASE: "http://otelcol:4318", "OTEL_POSTHOG_SINK": "both"}, ["none is at PostHog"]),
    ],
)
def test_endpoints_that_cannot_be_used(environ: dict[str, str], words: list[str]) -> None:
    """An endpoint that leads nowhere is refused at once, with its variable and the way out."""
    with pytest.raises(ConfigError) as raised:
        load(**environ)

    assert [word for word in words if word not in str(raised.value)] == []


@pytest.mark.parametrize("url", ["http://me:hunter2@[bad", "me:hunter2@host", "ftp://me:hunter2@host"])
def test_credentials_of_an_endpoint_are_never_shown(url: str) -> None:
    """Whatever is wrong with an endpoint, its password is not in the message."""
    with pytest.raises(ConfigError) as raised:
        load(**{BASE: url})

    assert "hunter2" not in str(raised.value)


def test_credentials_in_an_endpoint_are_not_kept() -> None:
    """User and password neither reach the lane nor any repr; their owner is told."""
    settings = load(**{BASE: "https://me:hunter2@otel.example.com"})

    assert lane(settings) == (C, "https://otel.example.com/v1/logs")
    assert "hunter2" not in repr(settings)
    assert settings.warnings == (
        "the user and password in OTEL_EXPORTER_OTLP_ENDPOINT are not used for product data; the token is",
    )


def test_collector_headers_go_along_as_secrets() -> None:
    """The headers that the logs exporter would send ride on the lane, but for framing and the beaten authorization."""
    general = load(
        **{BASE: "http://c:4318", "OTEL_EXPORTER_OTLP_HEADERS": "X-Tenant=a%20b,authorization=Bearer y,Content-Type=z"}
    )
    own = load(
        **{
            BASE: "http://c:4318",
            LOGS: "http://c:4318/v1/logs",
            "OTEL_EXPORTER_OTLP_HEADERS": "x=1",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "y=2",
        }
    )

    assert Lane(C, "http://c:4318/v1/logs", Secret(KEY), {"x-tenant": Secret("a b")}) == general.lane
    assert own.lane is not None
    assert {"y": Secret("2")} == own.lane.headers


def test_a_collectors_basic_credentials_stay_basic() -> None:
    """A Collector gets the scheme that its owner wrote; PostHog gets the key in it."""
    basic = {"OTEL_EXPORTER_OTLP_TOKEN": "Basic bWU6cGhjX3g="}

    collector = load_settings({**basic, BASE: "http://c:4318"}).lane
    direct = load_settings({**basic, BASE: "https://eu.i.posthog.com/i"}).lane

    assert collector == Lane(C, "http://c:4318/v1/logs", Secret(""), {"authorization": Secret("Basic bWU6cGhjX3g=")})
    assert direct == Lane(D, "https://eu.i.posthog.com", Secret("phc_x"))


def test_both_lanes() -> None:
    """`both` gives a second lane; the token is PostHog's, the Collector keeps its own headers."""
    environ = {
        BASE: "http://c:4318",
        LOGS: "https://eu.i.posthog.com/i/v1/logs",
        "OTEL_POSTHOG_SINK": "console,both",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer gate,x=1",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "z=1",
    }
    direct = Lane(D, "https://eu.i.posthog.com", Secret(KEY))
    collector = Lane(C, "http://c:4318/v1/logs", Secret("gate"), {"x": Secret("1")})

    settings = load(**environ)
    turned = load(**environ, OTEL_POSTHOG_MODE="collector")

    assert (direct, collector, ("console",)) == (settings.lane, settings.also, settings.sinks)
    assert (collector, direct) == (turned.lane, turned.also)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({BASE: "http://otelcol:4317"}, ["http://otelcol:4318/v1/logs", "gRPC port"]),
        ({BASE: "https://us.posthog.com/i"}, ["app host us.posthog.com", "ingestion host us.i.posthog.com"]),
        ({BASE: "https://posthog.com/i"}, ["not a known ingestion host", "https://eu.i.posthog.com/i"]),
        ({BASE: "http://us.i.posthog.com/i"}, ["plain http"]),
        ({BASE: "https://us.i.posthog.com/i/v1/traces"}, ["write https://us.i.posthog.com/i"]),
        ({BASE: "http://c:4318/v1/traces"}, ["write http://c:4318"]),
        ({BASE: "http://127.0.0.1:1/i", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["PostHog does not speak"]),
        (
            {TRACES: "https://us.i.posthog.com/i/v1/traces", LOGS: "https://eu.i.posthog.com/i/v1/logs"},
            ["several PostHog hosts"],
        ),
    ],
)
def test_warnings(environ: dict[str, str], words: list[str]) -> None:
    """What works otherwise than its owner may think is said."""
    said = "\n".join(load(**environ).warnings)

    assert [word for word in words if word not in said] == []
