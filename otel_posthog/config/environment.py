"""Every environment variable that the bridge reads, in one table: the only place where their names are spelled.

Over 600 lines because it is data: a row for each variable, read, checked, documented and shown from here alone.
`load.py` reads through it; `docs/configuration.md` and `.env.example` are written from it and tests keep them equal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SDK_DISABLED = "OTEL_SDK_DISABLED"
DISABLED_INSTRUMENTATIONS = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
CONFIG_FILE = "OTEL_CONFIG_FILE"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TOKEN = "OTEL_EXPORTER_OTLP_TOKEN"  # noqa: S105 - the name of the variable
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
INSECURE = "OTEL_EXPORTER_OTLP_INSECURE"
RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
CAPTURE_REQUEST_HEADERS = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST"
DISTRO = "OTEL_PYTHON_DISTRO"
CONFIGURATOR = "OTEL_PYTHON_CONFIGURATOR"

SIGNALS = ("traces", "logs", "metrics")
TLS_SETTINGS = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
PREFIX = "OTEL_POSTHOG_"


def signal_variable(signal: str, setting: str) -> str:
    """The signal's own form of a general OTLP variable.

    Args:
        signal: `traces`, `logs` or `metrics`.
        setting: `ENDPOINT`, `HEADERS`, `PROTOCOL` or one of `TLS_SETTINGS`.
    """
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_{setting}"


def general_variable(setting: str) -> str:
    """The general form of an OTLP variable, for all signals.

    Args:
        setting: `ENDPOINT`, `HEADERS`, `PROTOCOL` or one of `TLS_SETTINGS`.
    """
    return f"OTEL_EXPORTER_OTLP_{setting}"


def exporter_variable(signal: str) -> str:
    """The variable that lists a signal's exporters, e.g. `OTEL_TRACES_EXPORTER`."""
    return f"OTEL_{signal.upper()}_EXPORTER"


class Variable(NamedTuple):
    """One environment variable.

    Args:
        name: Its name.
        kind: `bool`, `int`, `seconds`, `choice`, `list`, `map`, `path` or `text`.
        setting: Dotted path of the `Settings` field that it fills; "" where it takes part in the gate or the lanes.
        meaning: One line for people.
        default: What counts where it is not set, as it would be written; "" for nothing.
        secret: Whether its value is never shown.
        choices: What a `choice` may be.
        minimum: Smallest number.
        maximum: Largest number, 0 for no limit.
    """

    name: str
    kind: str
    setting: str
    meaning: str
    default: str = ""
    secret: bool = False
    choices: tuple[str, ...] = ()
    minimum: float = 0
    maximum: float = 0

    @property
    def argument(self) -> str:
        """Name of the keyword argument of `load_settings` that says the same."""
        return self.name[len(PREFIX) :].lower() if self.name.startswith(PREFIX) else ""


_TLS_MEANINGS = (
    "PEM file of the CA's certificates, trusted instead of the system's",
    "PEM file of the client's certificate, where the server asks for one",
    "PEM file of the client's key, unless it is in the certificate's file",
)

# OpenTelemetry's own variables (and the one seed name, `..._TOKEN`), which the gate and the lanes are made from.
STANDARD: tuple[Variable, ...] = (
    Variable(ENDPOINT, "text", "", "Where telemetry goes: PostHog's `<host>/i`, or a Collector. Needed."),
    Variable(TOKEN, "text", "", "Project API key, or a Collector's bearer token; also `Basic …`. Needed.", secret=True),
    Variable(HEADERS, "map", "", "Headers; `authorization` is the token where the host is PostHog's.", secret=True),
    *(
        Variable(signal_variable(signal, "ENDPOINT"), "text", "", f"The {signal}' own endpoint, used verbatim.")
        for signal in SIGNALS
    ),
    *(
        Variable(
            signal_variable(signal, "HEADERS"),
            "map",
            "",
            f"The {signal}' own headers, instead of the general ones.",
            secret=True,
        )
        for signal in SIGNALS
    ),
    Variable(PROTOCOL, "text", "", "`http/protobuf` or `grpc`; PostHog speaks HTTP only."),
    *(Variable(signal_variable(signal, "PROTOCOL"), "text", "", f"The {signal}' own protocol.") for signal in SIGNALS),
    Variable(INSECURE, "bool", "", "For a gRPC endpoint without a scheme: plain text instead of TLS.", "false"),
    *(
        Variable(general_variable(setting), "path", "", f"For https endpoints: {meaning}.")
        for setting, meaning in zip(TLS_SETTINGS, _TLS_MEANINGS, strict=True)
    ),
    *(
        Variable(signal_variable(signal, setting), "path", "", f"The {signal}' own {meaning}.")
        for signal in SIGNALS
        for setting, meaning in zip(TLS_SETTINGS, _TLS_MEANINGS, strict=True)
    ),
    Variable(SDK_DISABLED, "bool", "", "`true` switches everything off, this package too.", "false"),
    Variable(DISABLED_INSTRUMENTATIONS, "list", "", "`posthog` or `*` in it switches this package off."),
    Variable(CONFIG_FILE, "path", "", "Declarative configuration of the OpenTelemetry SDK."),
    Variable(exporter_variable("traces"), "list", "", "Exporters of the standard traces.", "otlp"),
    Variable(exporter_variable("logs"), "list", "", "Exporters of the standard logs.", "otlp"),
    Variable(RESOURCE_ATTRIBUTES, "map", "", "Attributes of the resource; gets `posthog.carrier` in collector mode."),
    Variable(CAPTURE_REQUEST_HEADERS, "list", "", "Request headers kept on server spans; gets PostHog's two."),
)

OURS: tuple[Variable, ...] = (
    Variable("OTEL_POSTHOG_ENABLED", "bool", "enabled", "`false` switches this package off.", "true"),
    Variable(
        "OTEL_POSTHOG_MODE",
        "choice",
        "lane.mode",
        "How product data leaves; otherwise the endpoint decides.",
        choices=("direct", "collector"),
    ),
    Variable(
        "OTEL_POSTHOG_SINK",
        "list",
        "sinks",
        "Further sinks: `console`, `memory`, `file:PATH`; `both` sends to PostHog and to the Collector.",
    ),
    Variable(
        "OTEL_POSTHOG_CONFIG",
        "path",
        "rules.path",
        "Rules file: YAML, or a `pyproject.toml` with `[tool.otel_posthog]` (found in the working directory).",
    ),
    Variable("OTEL_POSTHOG_DEFAULT_RULES", "bool", "rules.defaults", "Page views and API calls by rule.", "false"),
    Variable(
        "OTEL_POSTHOG_RECORD_UNSAMPLED",
        "choice",
        "record_unsampled",
        "Which unsampled spans are still seen for product events.",
        "all",
        choices=("all", "server", "off"),
    ),
    Variable("OTEL_POSTHOG_EXCEPTIONS", "bool", "convert.exceptions", "Exceptions become `$exception`.", "true"),
    Variable(
        "OTEL_POSTHOG_FLAG_EVENTS",
        "choice",
        "convert.flag_events",
        "Flag evaluations that become `$feature_flag_called`; `others`: all but those of PostHog's own provider.",
        "others",
        choices=("others", "all", "off"),
    ),
    Variable(
        "OTEL_POSTHOG_REQUEST_CONTEXT",
        "bool",
        "convert.request_context",
        "Add `$current_url`, `$browser` … of the request.",
        "true",
    ),
    Variable(
        "OTEL_POSTHOG_KEEP_QUERY", "bool", "convert.keep_query", "Keep the query of `$current_url`; it leaks.", "false"
    ),
    Variable("OTEL_POSTHOG_CLIENT_IP", "bool", "convert.client_ip", "Send the client's address as `$ip`.", "false"),
    Variable(
        "OTEL_POSTHOG_PROPERTIES",
        "map",
        "convert.static_properties",
        "Properties for every event where absent: `key=value,…`, or a JSON object.",
    ),
    Variable(
        "OTEL_POSTHOG_MAX_VALUE_BYTES",
        "int",
        "convert.max_value_bytes",
        "Longest string value of a property.",
        "65536",
        minimum=16,
    ),
    Variable(
        "OTEL_POSTHOG_MAX_EVENT_BYTES",
        "int",
        "convert.max_event_bytes",
        "Largest event; PostHog discards above 1,000,000.",
        "921600",
        minimum=1024,
        maximum=1_000_000,
    ),
    Variable(
        "OTEL_POSTHOG_IN_APP_INCLUDE",
        "list",
        "convert.in_app_include",
        "Module or path prefixes whose frames are the app's.",
    ),
    Variable(
        "OTEL_POSTHOG_IN_APP_EXCLUDE",
        "list",
        "convert.in_app_exclude",
        "Module or path prefixes whose frames are not the app's.",
    ),
    Variable(
        "OTEL_POSTHOG_BAGGAGE_KEYS",
        "list",
        "identity.baggage_keys",
        "Baggage members that are believed where there is no secret; `none` for none.",
        "posthog.distinct_id,posthog.anonymous_id,posthog.session_id,posthog.groups,posthog.flags,user.id,session.id",
    ),
    Variable(
        "OTEL_POSTHOG_BAGGAGE",
        "bool",
        "identity.baggage",
        "Send person, session, groups and flags along to your own services, and take them out of other calls.",
        "true",
    ),
    Variable(
        "OTEL_POSTHOG_BAGGAGE_HOSTS",
        "list",
        "identity.baggage_hosts",
        "Your own services: host names with `*`, `host:port`, `!host` for one that is not, and `internal`.",
        "internal",
    ),
    Variable(
        "OTEL_POSTHOG_BAGGAGE_PROPERTIES",
        "list",
        "identity.baggage_properties",
        "Super properties that are sent along, and believed where there is no secret.",
    ),
    Variable(
        "OTEL_POSTHOG_BAGGAGE_SECRET",
        "list",
        "identity.baggage_secrets",
        "Shared by your services: signs what is sent along; then only what is signed is believed. Several: the first "
        "signs.",
        secret=True,
    ),
    Variable(
        "OTEL_POSTHOG_BAGGAGE_SECRET_FILE",
        "path",
        "identity.baggage_secret_file",
        "File of such secrets, one a line.",
    ),
    Variable(
        "OTEL_POSTHOG_BAGGAGE_MAX_AGE",
        "seconds",
        "identity.baggage_max_age",
        "How long a signature counts; longer than messages wait in your queues.",
        "3600.0",
        minimum=1,
        maximum=604_800,
    ),
    Variable(
        "OTEL_POSTHOG_TRUST_HEADERS",
        "bool",
        "identity.headers",
        "Believe the `x-posthog-*` headers of a request.",
        "true",
    ),
    Variable(
        "OTEL_POSTHOG_LATE_IDENTITY_WAIT",
        "seconds",
        "identity.late_wait",
        "How long a tagged item waits for who it was; 0 = off.",
        "2.0",
        maximum=60,
    ),
    Variable(
        "OTEL_POSTHOG_LATE_IDENTITY_CAP",
        "int",
        "identity.late_cap",
        "Items that wait at the most.",
        "2000",
        minimum=1,
    ),
    Variable(
        "OTEL_POSTHOG_QUEUE_SIZE", "int", "delivery.queue_size", "Events waiting at the most.", "10000", minimum=1
    ),
    Variable(
        "OTEL_POSTHOG_QUEUE_BYTES",
        "int",
        "delivery.queue_bytes",
        "Encoded bytes waiting at the most.",
        "67108864",
        minimum=1024,
    ),
    Variable(
        "OTEL_POSTHOG_BATCH_SIZE",
        "int",
        "delivery.batch_size",
        "Events in one request.",
        "1000",
        minimum=1,
        maximum=10_000,
    ),
    Variable(
        "OTEL_POSTHOG_BATCH_BYTES",
        "int",
        "delivery.batch_bytes",
        "Bytes of one request before compression; PostHog takes 20 MiB.",
        "5242880",
        minimum=1024,
        maximum=20 * 1024 * 1024,
    ),
    Variable(
        "OTEL_POSTHOG_FLUSH_INTERVAL",
        "seconds",
        "delivery.flush_interval",
        "How long a part-filled batch waits.",
        "1.0",
        minimum=0.01,
        maximum=3600,
    ),
    Variable(
        "OTEL_POSTHOG_TIMEOUT",
        "seconds",
        "delivery.timeout",
        "Limit of one whole request.",
        "15.0",
        minimum=0.1,
        maximum=300,
    ),
    Variable(
        "OTEL_POSTHOG_EXIT_TIMEOUT",
        "seconds",
        "delivery.exit_timeout",
        "How long the end of the process may wait for delivery.",
        "5.0",
        maximum=300,
    ),
    Variable(
        "OTEL_POSTHOG_FLUSH_ON_SIGTERM",
        "bool",
        "delivery.flush_on_sigterm",
        "Flush on a SIGTERM that the app does not handle.",
        "true",
    ),
    Variable(
        "OTEL_POSTHOG_RETRY_INITIAL",
        "seconds",
        "delivery.retry_initial",
        "First pause before a retry; doubles, with jitter.",
        "1.0",
        minimum=0.01,
        maximum=3600,
    ),
    Variable(
        "OTEL_POSTHOG_RETRY_MAX",
        "seconds",
        "delivery.retry_max",
        "Longest such pause.",
        "30.0",
        minimum=0.01,
        maximum=3600,
    ),
    Variable(
        "OTEL_POSTHOG_RETRY_ELAPSED",
        "seconds",
        "delivery.retry_elapsed",
        "After this a batch is spooled, else given up; 0 = never.",
        "600.0",
    ),
    Variable(
        "OTEL_POSTHOG_COMPRESSION",
        "choice",
        "delivery.compression",
        "Compression of requests.",
        "gzip",
        choices=("gzip", "none"),
    ),
    Variable(
        "OTEL_POSTHOG_WIRE",
        "choice",
        "delivery.wire",
        "PostHog's capture API: v1 answers per event; `auto` falls back to v0.",
        "auto",
        choices=("auto", "v1", "v0"),
    ),
    Variable(
        "OTEL_POSTHOG_FLAGS",
        "bool",
        "flags.enabled",
        "Feature flags are evaluated; otherwise every question gets its default.",
        "true",
    ),
    Variable(
        "OTEL_POSTHOG_FLAGS_HOST",
        "text",
        "flags.host",
        "PostHog's address for flags; in direct mode the endpoint's. Needed in collector mode.",
    ),
    Variable(
        "OTEL_POSTHOG_FLAGS_TOKEN",
        "text",
        "flags.token",
        "Project API key for flags; in direct mode the token. Needed in collector mode.",
        secret=True,
    ),
    Variable(
        "OTEL_POSTHOG_FLAGS_SECRET_KEY",
        "text",
        "flags.secret_key",
        "Personal (`phx_`) or project secret (`phs_`) key: flags are then evaluated in the process.",
        secret=True,
    ),
    Variable(
        "OTEL_POSTHOG_FLAGS_TIMEOUT",
        "seconds",
        "flags.timeout",
        "How long one question to PostHog may take.",
        "1.0",
        minimum=0.05,
        maximum=30,
    ),
    Variable(
        "OTEL_POSTHOG_FLAGS_POLL_INTERVAL",
        "seconds",
        "flags.poll_interval",
        "With a secret key: how often the definitions of flags are looked at.",
        "30.0",
        minimum=0.1,
        maximum=3600,
    ),
    Variable(
        "OTEL_POSTHOG_FLAGS_COOLDOWN",
        "seconds",
        "flags.cooldown",
        "Longest pause after failed questions, during which the default counts.",
        "30.0",
        maximum=3600,
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER",
        "bool",
        "browser.enabled",
        "`posthog_script()` writes posthog-js into pages; otherwise nothing.",
        "true",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_HOST",
        "text",
        "browser.host",
        "PostHog's address for browsers and the relay; in direct mode the endpoint's. Needed in collector mode.",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_TOKEN",
        "text",
        "browser.token",
        "Project API key that stands in pages; in direct mode the token. Needed in collector mode.",
        secret=True,
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_RELAY",
        "text",
        "browser.relay",
        "Path of the relay on the app's own origin, e.g. `/relay`; browsers then ask no other.",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_RELAY_CLIENT_IP",
        "bool",
        "browser.relay_client_ip",
        "The relay tells PostHog the browser's address; otherwise its events have no place on the map.",
        "false",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_SCRIPT",
        "text",
        "browser.script",
        "Address of posthog-js's `array.js`, where it is not PostHog's or the relay's.",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_PAGE_VIEWS",
        "choice",
        "browser.page_views",
        "Who captures `$pageview` of pages with the script, so that none is counted twice.",
        "browser",
        choices=("browser", "server"),
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_AUTOCAPTURE", "bool", "browser.autocapture", "Clicks and forms are captured.", "true"
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_RECORDING",
        "choice",
        "browser.recording",
        "Session recordings, where the project has them: without any text, with inputs masked, or none.",
        "inputs",
        choices=("off", "inputs", "text"),
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_CONSENT",
        "text",
        "browser.consent",
        "`granted`, `required`, or `module:function` from a request to True, False, or None for not asked yet.",
        "granted",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_FLAGS",
        "list",
        "browser.flags",
        "Flags that pages begin with: names, or `*` for all. Those that the request asked for are always there.",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_PROPERTIES",
        "list",
        "browser.properties",
        "Names of super properties that events of the page get, too. They can be read by whoever sees the page.",
    ),
    Variable(
        "OTEL_POSTHOG_BROWSER_OPTIONS",
        "map",
        "browser.options",
        "Further options of posthog-js, as a JSON object; they win.",
    ),
    Variable("OTEL_POSTHOG_SPOOL_DIR", "path", "delivery.spool_dir", "Directory for what could not be delivered."),
    Variable(
        "OTEL_POSTHOG_SPOOL_BYTES",
        "int",
        "delivery.spool_bytes",
        "Bytes of the spool at the most.",
        "536870912",
        minimum=1024,
    ),
)

GATEWAY_CONFIG = "OTEL_POSTHOG_GATEWAY_CONFIG"
GATEWAY_TOKENS = "OTEL_POSTHOG_GATEWAY_TOKENS"
GATEWAY_TOKENS_FILE = "OTEL_POSTHOG_GATEWAY_TOKENS_FILE"
GATEWAY_HTTP = "OTEL_POSTHOG_GATEWAY_HTTP"
GATEWAY_GRPC = "OTEL_POSTHOG_GATEWAY_GRPC"
GATEWAY_ADMIN = "OTEL_POSTHOG_GATEWAY_ADMIN"
GATEWAY_WORKERS = "OTEL_POSTHOG_GATEWAY_WORKERS"
GATEWAY_ACKNOWLEDGE = "OTEL_POSTHOG_GATEWAY_ACKNOWLEDGE"
GATEWAY_LOG = "OTEL_POSTHOG_GATEWAY_LOG"

# Of `otel-posthog gateway` alone; beside them it reads the endpoint, the token and what conversion and delivery read.
GATEWAY: tuple[Variable, ...] = (
    Variable(GATEWAY_CONFIG, "path", "", "The gateway's `bridge.yaml`; the option `--config` beats it."),
    Variable(GATEWAY_TOKENS, "list", "", "Bearer tokens that callers may show, where no file lists any.", secret=True),
    Variable(GATEWAY_TOKENS_FILE, "path", "", "File of such tokens, one a line; read again when it changes."),
    Variable(GATEWAY_HTTP, "text", "", "Where it listens for OTLP over HTTP: `host:port`, or `off`.", "127.0.0.1:4318"),
    Variable(GATEWAY_GRPC, "text", "", "Where it listens for OTLP over gRPC: `host:port`, or `off`.", "127.0.0.1:4317"),
    Variable(GATEWAY_ADMIN, "text", "", "Where it serves health and metrics: `host:port`, or `off`.", "127.0.0.1:8887"),
    Variable(GATEWAY_WORKERS, "text", "", "Its processes: a number, or `auto` for one per core.", "1"),
    Variable(
        GATEWAY_ACKNOWLEDGE,
        "choice",
        "",
        "What its answer promises: on disk, or delivered.",
        "spool",
        choices=("spool", "forward"),
    ),
    Variable(GATEWAY_LOG, "choice", "", "Format of its log lines.", "text", choices=("text", "json")),
)

# Read where they are needed, so no part of the settings.
ELSEWHERE: tuple[Variable, ...] = (
    Variable(
        "OTEL_POSTHOG_DEPLOYMENT_METHOD",
        "text",
        "",
        "`deployment_method` of events, where what is found (docker, kubernetes, …) is not right.",
    ),
    Variable(
        "OTEL_POSTHOG_RAISE",
        "bool",
        "",
        "For work on otel-posthog: raise internal failures instead of counting them.",
    ),
    Variable("OTEL_POSTHOG_RUN", "text", "", "Set by `otel-posthog run` for what it starts; not by people."),
    Variable("OTEL_POSTHOG_WORKER", "text", "", "Set by the gateway's supervisor for its workers; not by people."),
)

VARIABLES: tuple[Variable, ...] = (*STANDARD, *OURS, *GATEWAY, *ELSEWHERE)


def variable(name: str) -> Variable:
    """The row of one name.

    Raises:
        KeyError: No such variable.
    """
    for row in VARIABLES:
        if row.name == name:
            return row
    raise KeyError(name)


def options_of_opentelemetry_instrument() -> dict[str, Any]:
    """`name -> name` of what only this package reads, for the `opentelemetry_environment_variables` entry point.

    `opentelemetry-instrument` makes a `--flag` of each module attribute that starts with `OTEL_`.
    """
    return {row.name: row.name for row in OURS} | {TOKEN: TOKEN}
