"""The gate's truth table (DESIGN §2), row by row."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import Mode, Settings

POSTHOG = "https://us.i.posthog.com/i"
COLLECTOR = "http://otelcol:4318"
KEY = "phc_Gate0123456789"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TOKEN = "OTEL_EXPORTER_OTLP_TOKEN"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
ON = {ENDPOINT: POSTHOG, TOKEN: KEY}


def basic(user: str, password: str) -> str:
    """A Basic header value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def failed(settings: Settings) -> str:
    """Name of the condition that keeps the gate shut, "" where it is open."""
    return settings.failed_check.name if settings.failed_check else ""


SHUT = [
    # nothing, or half of it
    ({}, "endpoint"),
    ({ENDPOINT: POSTHOG}, "token"),
    ({TOKEN: KEY}, "endpoint"),
    ({ENDPOINT: COLLECTOR}, "token"),
    # blank is unset
    ({ENDPOINT: "", TOKEN: ""}, "endpoint"),
    ({ENDPOINT: " \t", TOKEN: KEY}, "endpoint"),
    ({ENDPOINT: POSTHOG, TOKEN: " \n"}, "token"),
    ({ENDPOINT: POSTHOG, TOKEN: "Bearer "}, "token"),
    ({ENDPOINT: POSTHOG, TOKEN: "basic"}, "token"),
    ({ENDPOINT: POSTHOG, HEADERS: "authorization="}, "token"),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": " ", TOKEN: KEY}, "endpoint"),
    # the SDK's switch, by the SDK's rule
    ({**ON, "OTEL_SDK_DISABLED": "true"}, "sdk"),
    ({**ON, "OTEL_SDK_DISABLED": " TRUE "}, "sdk"),
    # our switch
    ({**ON, "OTEL_POSTHOG_ENABLED": "false"}, "switch"),
    ({**ON, "OTEL_POSTHOG_ENABLED": " Off "}, "switch"),
    ({**ON, "OTEL_POSTHOG_ENABLED": "0"}, "switch"),
    ({"OTEL_POSTHOG_ENABLED": "true"}, "endpoint"),
    # the standard off-switch of instrumentations
    ({**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "posthog"}, "instrumentation"),
    ({**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask, posthog ,redis"}, "instrumentation"),
    ({**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}, "instrumentation"),
    ({**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests,*"}, "instrumentation"),
    # tokens that cannot work
    ({ENDPOINT: POSTHOG, TOKEN: "phx_personal"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: "Bearer phx_personal"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: basic("me", "phx_personal")}, "token shape"),
    ({ENDPOINT: POSTHOG, HEADERS: "authorization=Bearer%20phx_personal"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: f'"{KEY}"'}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: f"'{KEY}'"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: "phc_a b"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: "ApiKey phc_a"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: "phc_ключ"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: "phc_a\0b"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: "phc_" + "a" * 61}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: "Basic !!!"}, "token shape"),
    ({ENDPOINT: POSTHOG, TOKEN: basic("", "")}, "token shape"),
    ({ENDPOINT: COLLECTOR, TOKEN: "abc\r\nx-evil: 1"}, "token shape"),
    ({ENDPOINT: COLLECTOR, TOKEN: f'"{KEY}"'}, "token shape"),
]


@pytest.mark.parametrize(("environ", "condition"), SHUT)
def test_shut(environ: dict[str, str], condition: str) -> None:
    """Each of these leaves everything off, names the condition, and plans no lane."""
    settings = load_settings(environ)

    assert (False, condition, None, None, None, None) == (
        settings.enabled,
        failed(settings),
        settings.lane,
        settings.also,
        settings.traces_mode,
        settings.logs_mode,
    )
    assert settings.reason == next(check.reason for check in settings.checks if not check.passed)
    assert (condition == "token shape") == any(check.mistake for check in settings.checks)


VENDORS = {
    "honeycomb": ("https://api.honeycomb.io", "x-honeycomb-team=abc123"),
    "honeycomb, authorization": ("https://api.honeycomb.io:443", "authorization=Bearer%20hcaik_x"),
    "grafana cloud": ("https://otlp-gateway-prod-eu-west-0.grafana.net/otlp", "Authorization=Basic%20MTIzOmdsY194"),
    "grafana cloud, raw blank": ("https://otlp-gateway-prod-us.grafana.net/otlp", "Authorization=Basic MTIzOmdsY194"),
    "elastic": ("https://my.apm.us-east-1.aws.cloud.es.io:443", "Authorization=ApiKey%20abc"),
    "elastic, secret token": ("https://my.apm.europe-west1.gcp.cloud.es.io", "Authorization=Bearer abc"),
    "datadog": ("https://otlp.datadoghq.com", "dd-api-key=abc"),
    "datadog agent": ("http://localhost:4318", "authorization=Bearer abc"),
    "new relic": ("https://otlp.nr-data.net:4317", "api-key=NRAK"),
    "dynatrace": ("https://x.live.dynatrace.com/api/v2/otlp", "Authorization=Api-Token dt0c01.x"),
    "axiom": ("https://api.axiom.co", "Authorization=Bearer xaat-x,X-Axiom-Dataset=d"),
    "langfuse": ("https://cloud.langfuse.com/api/public/otel", "Authorization=Basic cGs6c2s="),
    "logfire": ("https://logfire-api.pydantic.dev", "Authorization=pylf_x"),
    "uptrace": ("https://otlp.uptrace.dev", "uptrace-dsn=https://x@uptrace.dev"),
    "aws": ("https://xray.us-east-1.amazonaws.com/v1/traces", "authorization=AWS4"),
    "a path that looks like ours": ("https://example.com/i", "authorization=Bearer abc"),
    "a host that looks like PostHog's": ("https://posthog.com.example.net/i", "authorization=Bearer abc"),
    "another that does": ("https://notposthog.com/i", "authorization=Bearer abc"),
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_other_vendors_stay_untouched(vendor: str) -> None:
    """Endpoint and authorization of another vendor switch nothing on, in the general or the signals' own variables."""
    endpoint, headers = VENDORS[vendor]

    general = load_settings({ENDPOINT: endpoint, HEADERS: headers})
    own = load_settings(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{endpoint}/v1/traces",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": headers,
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{endpoint}/v1/metrics",
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS": headers,
        }
    )

    assert (failed(general), failed(own)) == ("token", "token")
    assert general.warnings == ()


OPEN = [
    ({ENDPOINT: POSTHOG, TOKEN: KEY}, Mode.DIRECT, KEY),
    ({ENDPOINT: POSTHOG, TOKEN: f"  {KEY}\n"}, Mode.DIRECT, KEY),
    ({ENDPOINT: POSTHOG, TOKEN: f"Bearer {KEY}"}, Mode.DIRECT, KEY),
    ({ENDPOINT: POSTHOG, TOKEN: f"bearer   {KEY}"}, Mode.DIRECT, KEY),
    ({ENDPOINT: POSTHOG, TOKEN: basic("me", KEY)}, Mode.DIRECT, KEY),
    ({ENDPOINT: POSTHOG, TOKEN: basic(KEY, "")}, Mode.DIRECT, KEY),
    # the two seed values that look like switches are tokens
    ({ENDPOINT: POSTHOG, TOKEN: "0"}, Mode.DIRECT, "0"),
    ({ENDPOINT: POSTHOG, TOKEN: "false"}, Mode.DIRECT, "false"),
    # an authorization counts at PostHog's own hosts, in every form that the SDK reads
    ({ENDPOINT: POSTHOG, HEADERS: f"Authorization=Bearer%20{KEY}"}, Mode.DIRECT, KEY),
    ({ENDPOINT: POSTHOG, HEADERS: f"x=1, AUTHORIZATION = Bearer {KEY}"}, Mode.DIRECT, KEY),
    ({ENDPOINT: POSTHOG, "OTEL_EXPORTER_OTLP_LOGS_HEADERS": f"authorization=Bearer {KEY}"}, Mode.DIRECT, KEY),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{POSTHOG}/v1/traces", HEADERS: f"authorization={KEY}"}, Mode.DIRECT, KEY),
    # … and with the mode said aloud
    ({ENDPOINT: COLLECTOR, HEADERS: "authorization=Bearer c", "OTEL_POSTHOG_MODE": "collector"}, Mode.COLLECTOR, "c"),
    (
        {ENDPOINT: "https://example.com/i", HEADERS: f"authorization=Bearer {KEY}", "OTEL_POSTHOG_MODE": "direct"},
        Mode.DIRECT,
        KEY,
    ),
    # the token beats the header
    ({ENDPOINT: POSTHOG, TOKEN: KEY, HEADERS: "authorization=Bearer other"}, Mode.DIRECT, KEY),
    ({ENDPOINT: COLLECTOR, TOKEN: KEY, HEADERS: "authorization=Bearer other"}, Mode.COLLECTOR, KEY),
    # each signal's own endpoint counts
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{COLLECTOR}/v1/traces", TOKEN: KEY}, Mode.COLLECTOR, KEY),
    ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{POSTHOG}/v1/logs", TOKEN: KEY}, Mode.DIRECT, KEY),
    ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{COLLECTOR}/v1/metrics", TOKEN: KEY}, Mode.COLLECTOR, KEY),
    # switches that are not off
    ({**ON, "OTEL_SDK_DISABLED": "false"}, Mode.DIRECT, KEY),
    ({**ON, "OTEL_SDK_DISABLED": "1"}, Mode.DIRECT, KEY),
    ({**ON, "OTEL_SDK_DISABLED": ""}, Mode.DIRECT, KEY),
    ({**ON, "OTEL_POSTHOG_ENABLED": "true"}, Mode.DIRECT, KEY),
    ({**ON, "OTEL_POSTHOG_ENABLED": " "}, Mode.DIRECT, KEY),
    ({**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask,posthog-python,redis"}, Mode.DIRECT, KEY),
    ({**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ","}, Mode.DIRECT, KEY),
    # a declarative file changes nothing about the two variables
    ({**ON, "OTEL_CONFIG_FILE": "/etc/otel.yaml"}, Mode.DIRECT, KEY),
    # a Collector's token has no PostHog shape
    ({ENDPOINT: COLLECTOR, TOKEN: "x" * 500}, Mode.COLLECTOR, "x" * 500),
]


@pytest.mark.parametrize(("environ", "mode", "token"), OPEN)
def test_open(environ: dict[str, str], mode: Mode, token: str) -> None:
    """Each of these opens the gate, in that mode and with that token."""
    settings = load_settings(environ)

    assert settings.lane is not None, settings.reason
    assert (True, "", mode, token) == (
        settings.enabled,
        failed(settings),
        settings.lane.mode,
        settings.lane.token.reveal(),
    )


def test_arguments_count_as_endpoint_and_token() -> None:
    """Plain code and a declarative file pass them: the environment may be silent, with or without OTEL_CONFIG_FILE."""
    plain = load_settings({}, endpoint=POSTHOG, token=KEY)
    declarative = load_settings({"OTEL_CONFIG_FILE": "otel.yaml"}, endpoint=f"{COLLECTOR}/", token=f"Bearer {KEY}")

    assert plain.lane is not None
    assert declarative.lane is not None
    assert (
        plain.lane.mode,
        plain.lane.url,
        plain.lane.token.reveal(),
    ) == (Mode.DIRECT, "https://us.i.posthog.com", KEY)
    assert (
        declarative.lane.mode,
        declarative.lane.url,
        declarative.lane.token.reveal(),
    ) == (Mode.COLLECTOR, "http://otelcol:4318/v1/logs", KEY)
    assert (plain.sources["lane.url"], plain.sources["lane.token"]) == ("argument endpoint", "argument token")


def test_arguments_do_not_beat_the_off_switches() -> None:
    """The operator's switches hold against code; the argument `enabled` beats its own variable."""
    given = {"endpoint": POSTHOG, "token": KEY}

    assert failed(load_settings({"OTEL_SDK_DISABLED": "true"}, **given)) == "sdk"
    assert failed(load_settings({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}, **given)) == "instrumentation"
    assert failed(load_settings({}, **given, enabled=False)) == "switch"
    assert failed(load_settings({"OTEL_POSTHOG_ENABLED": "false"}, **given, enabled=True)) == ""


def test_an_argument_never_borrows_a_strangers_authorization() -> None:
    """With an endpoint argument, the environment's headers for another host neither open the gate nor ride along."""
    honeycomb = {ENDPOINT: "https://api.honeycomb.io", HEADERS: "authorization=Bearer hc,x-honeycomb-team=t"}

    closed = load_settings(honeycomb, endpoint=POSTHOG, mode="direct")
    opened = load_settings(honeycomb, endpoint=COLLECTOR, token="t")

    assert failed(closed) == "token"
    assert opened.lane is not None
    assert opened.lane.headers == {}


def test_blank_arguments_are_not_given() -> None:
    """Blank arguments fall through to the environment."""
    settings = load_settings(ON, endpoint=" ", token="", mode="  ")

    assert settings.enabled
    assert settings.sources["lane.url"] == ENDPOINT


def test_every_condition_is_reported_with_its_source() -> None:
    """All conditions are answered, passed or not, each with what decided it."""
    checks = load_settings({ENDPOINT: POSTHOG, TOKEN: "phx_abc", "OTEL_POSTHOG_ENABLED": "yes"}).checks

    assert [(check.name, check.passed, check.source) for check in checks] == [
        ("sdk", True, ""),
        ("switch", True, "OTEL_POSTHOG_ENABLED"),
        ("instrumentation", True, ""),
        ("endpoint", True, ENDPOINT),
        ("token", True, TOKEN),
        ("token shape", False, TOKEN),
    ]
    assert "phx_abc" not in repr(checks)


def test_a_vendors_authorization_is_explained() -> None:
    """Whoever wonders why it is off with an authorization set reads why it does not count."""
    assert load_settings({ENDPOINT: "https://api.honeycomb.io", HEADERS: "authorization=Bearer x"}).reason == (
        "OTEL_EXPORTER_OTLP_TOKEN is not set, and the authorization in OTEL_EXPORTER_OTLP_HEADERS does not count "
        "towards api.honeycomb.io: that is other vendors' usual set-up, where installing this package must change "
        "nothing"
    )


def test_the_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set after import: on; unset again: off."""
    monkeypatch.setenv(ENDPOINT, POSTHOG)
    monkeypatch.setenv(TOKEN, KEY)
    assert load_settings().enabled

    monkeypatch.delenv(TOKEN)
    assert not load_settings().enabled


@given(
    endpoint=st.sampled_from(["", " ", POSTHOG, COLLECTOR]),
    token=st.sampled_from(["", "\t", KEY]),
    sdk=st.sampled_from(["", "true", "TRUE", "false"]),
    own=st.sampled_from(["", "true", "false"]),
    listed=st.sampled_from(["", "flask", "posthog", "*"]),
)
def test_open_only_if_every_condition_holds(endpoint: str, token: str, sdk: str, own: str, listed: str) -> None:
    """The whole truth table: on exactly where nothing is missing and nothing says off."""
    settings = load_settings(
        {
            ENDPOINT: endpoint,
            TOKEN: token,
            "OTEL_SDK_DISABLED": sdk,
            "OTEL_POSTHOG_ENABLED": own,
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": listed,
        }
    )

    wanted = bool(endpoint.strip() and token.strip()) and sdk.lower() != "true" and own != "false"
    assert settings.enabled == (wanted and listed not in ("posthog", "*"))
    assert settings.enabled == (settings.lane is not None) == (settings.failed_check is None)
