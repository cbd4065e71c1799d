"""Every setting of the bridge as frozen sections with their defaults; knows no component and reads no environment.

`load.py` builds `Settings` from arguments, the environment and files; everybody else takes the section that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from otel_posthog.model.frozen import frozen


class Mode(str, Enum):
    """How product data leaves the process (DESIGN §2)."""

    DIRECT = "direct"
    """The process converts and delivers to PostHog's capture API itself."""
    COLLECTOR = "collector"
    """The process converts and sends OTLP logs to a Collector; a gateway delivers."""


class Secret:
    """A credential that never shows in a repr, a log or a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The credential itself: only for the header or body that carries it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({self.masked()!r})"

    __str__ = __repr__

    def masked(self) -> str:
        """First four characters and the length, enough to tell two keys apart."""
        return f"{self._value[:4]}…({len(self._value)})" if len(self._value) > 8 else "…"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is never pickled")


@frozen
class Lane:
    """Where product data goes.

    Args:
        mode: Direct or collector.
        url: Direct: PostHog's capture host, e.g. `https://eu.i.posthog.com`, without trailing slash or `/i`.
            Collector: the full OTLP logs URL, e.g. `http://otelcol:4318/v1/logs`.
        token: Direct: the project API key. Collector: the bearer token; empty where `headers` has an `authorization`
            of another scheme, or where the Collector asks for none.
        headers: Further headers for the Collector (from `OTEL_EXPORTER_OTLP_HEADERS`), lower-case names; values are
            treated as secrets.
        ca_file: PEM file of the only roots to trust; "" for the system's.
        client_cert: PEM file of the client's certificate, for mTLS; "" for none.
        client_key: PEM file of its key; "" where it is in `client_cert`.
    """

    mode: Mode
    url: str
    token: Secret
    headers: Mapping[str, Secret] = field(default_factory=dict[str, Secret])
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""


@frozen
class DeliveryConfig:
    """Queue, batch, retry and spool limits (`OTEL_POSTHOG_*`, names as in `environment.py`).

    Args:
        queue_size: Events waiting at the most; beyond it `submit` refuses. An empty queue takes what one item became,
            however much that is.
        queue_bytes: Encoded bytes waiting at the most.
        batch_size: Events per request at the most.
        batch_bytes: Body bytes per request, before compression.
        flush_interval: Seconds until a part-filled batch leaves.
        timeout: Seconds for one whole request, connect to last byte of the answer.
        retry_initial: First pause in seconds; doubles, with full jitter.
        retry_max: Longest pause in seconds. A `Retry-After` is a floor and is not clamped by it, but by 30 s.
        retry_elapsed: Seconds after which a batch is given up (spooled, else lost); 0 = never.
        exit_timeout: Seconds that shutdown may take altogether.
        flush_on_sigterm: Flush on a SIGTERM that nobody handles (docs/decisions/0046).
        compression: `gzip` or `none`.
        wire: `auto` (v1, falling back to v0 and remembering it), `v1` or `v0`; direct mode only.
        spool_dir: Directory of the spool; "" = none.
        spool_bytes: Bytes on disk at the most.
    """

    queue_size: int = 10_000
    queue_bytes: int = 64 * 1024 * 1024
    batch_size: int = 1_000
    batch_bytes: int = 5 * 1024 * 1024
    flush_interval: float = 1.0
    timeout: float = 15.0
    retry_initial: float = 1.0
    retry_max: float = 30.0
    retry_elapsed: float = 600.0
    exit_timeout: float = 5.0
    flush_on_sigterm: bool = True
    compression: str = "gzip"
    wire: str = "auto"
    spool_dir: str = ""
    spool_bytes: int = 512 * 1024 * 1024


@frozen
class ConvertConfig:
    """What the converter may read and how much it may write.

    Args:
        exceptions: Turn exceptions into `$exception` events.
        flag_events: Which flag evaluations become `$feature_flag_called`: `others` (all but those of PostHog's own
            OpenFeature provider, whose client reports them itself), `all`, or `off`.
        request_context: Add `$current_url`, `$browser` … from HTTP attributes of the item or its span.
        keep_query: Keep the query string of `$current_url` (default off: it leaks).
        client_ip: Send the client address as `$ip` (default off; otherwise `$geoip_disable` is set).
        max_value_bytes: Longest string value in a property, in UTF-8 bytes.
        max_event_bytes: Largest serialised event.
        in_app_include: Module or path prefixes that are the app's although they look like libraries.
        in_app_exclude: Module or path prefixes that are not the app's.
        static_properties: Added to every event where absent.
        honour_carrier: Convert nothing that the emitting process delivers itself (`posthog.carrier`; gateway only).
        trust_headers: Believe captured `x-posthog-*` request headers (gateway; in a process `identity.headers` decides
            whether they are captured).
    """

    exceptions: bool = True
    flag_events: str = "others"
    request_context: bool = True
    keep_query: bool = False
    client_ip: bool = False
    max_value_bytes: int = 64 * 1024
    max_event_bytes: int = 900 * 1024
    in_app_include: tuple[str, ...] = ()
    in_app_exclude: tuple[str, ...] = ()
    static_properties: Mapping[str, object] = field(default_factory=dict[str, object])
    honour_carrier: bool = False
    trust_headers: bool = True


@frozen
class IdentityConfig:
    """Which identity from the wire is believed (in process; DESIGN §3).

    Args:
        baggage_keys: Baggage members that are believed where there is no secret; empty = none.
        baggage: Send what holds for a request along to own services, and take it out of calls to others.
        baggage_hosts: Patterns of own services, see `context/destination.py`.
        baggage_properties: Names of super properties that are sent along, and believed where there is no secret.
        baggage_secrets: Sign what is sent along; with any, only what one of them has signed is believed.
        baggage_secret_file: Where further ones were read from; "" = none.
        baggage_max_age: Seconds for which a signature counts.
        headers: Read captured `x-posthog-*` request headers.
        late_wait: Seconds that a tagged item waits for the identity of its local trace; 0 = off.
        late_cap: Items waiting at the most, over all traces.
    """

    baggage_keys: tuple[str, ...] = (
        "posthog.distinct_id",
        "posthog.anonymous_id",
        "posthog.session_id",
        "posthog.groups",
        "posthog.flags",
        "user.id",
        "session.id",
    )
    baggage: bool = True
    baggage_hosts: tuple[str, ...] = ("internal",)
    baggage_properties: tuple[str, ...] = ()
    baggage_secrets: tuple[Secret, ...] = ()
    baggage_secret_file: str = ""
    baggage_max_age: float = 3_600.0
    headers: bool = True
    late_wait: float = 2.0
    late_cap: int = 2_000


@frozen
class FlagsConfig:
    """The client for feature flags (`otel_posthog.flags`); asks PostHog only when a flag is asked for.

    Args:
        enabled: Whether flags are evaluated at all; otherwise every call gives its default.
        host: PostHog's address for flags; "" for the lane's own (direct mode only).
        token: Project API key for flags; empty for the lane's own (direct mode only).
        secret_key: Personal or project secret key; with it definitions are loaded and evaluated in the process.
        timeout: Seconds that one question to PostHog may take.
        poll_interval: Seconds between two looks at the definitions.
        cooldown: Longest pause in seconds after failures; meanwhile there is no answer, and the default counts.
    """

    enabled: bool = True
    host: str = ""
    token: Secret = field(default_factory=lambda: Secret(""))
    secret_key: Secret = field(default_factory=lambda: Secret(""))
    timeout: float = 1.0
    poll_interval: float = 30.0
    cooldown: float = 30.0


@frozen
class BrowserConfig:
    """What `otel_posthog.browser` writes into pages, and relays.

    Args:
        enabled: Whether anything is written.
        host: PostHog's address for browsers and the relay; "" for the lane's own (direct mode only).
        token: Project API key for pages; empty for the lane's own (direct mode only).
        relay: Path of the relay on the app's own origin, with a leading slash and none at its end; "" for none.
        relay_client_ip: Whether the relay tells PostHog the browser's address.
        script: Address of posthog-js; "" for PostHog's own, or the relay's.
        page_views: Who captures page views: `browser` or `server`.
        autocapture: Whether posthog-js captures clicks and forms.
        recording: `off`, `inputs` (all inputs are masked), or `text` (all text, too).
        consent: `granted`, `required`, or `module:function`.
        flags: Flags that pages begin with, beside those of the request; `*` for all.
        properties: Names of super properties that go to the page.
        options: Further options of posthog-js.
    """

    enabled: bool = True
    host: str = ""
    token: Secret = field(default_factory=lambda: Secret(""))
    relay: str = ""
    relay_client_ip: bool = False
    script: str = ""
    page_views: str = "browser"
    autocapture: bool = True
    recording: str = "inputs"
    consent: str = "granted"
    flags: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict[str, object])


@frozen
class RulesConfig:
    """Where the rules come from.

    Args:
        path: Rules file (YAML, or a `pyproject.toml` with `[tool.otel_posthog]`); "" = none.
        defaults: Append the default rule set (page views and API calls).
    """

    path: str = ""
    defaults: bool = False


@frozen
class GateCheck:
    """One condition of the gate and how it came out.

    Args:
        name: Short name, e.g. `endpoint`.
        passed: Whether it holds.
        reason: One sentence for people; never a secret.
        source: The variable or argument that decided, "" where a default did.
        mistake: It failed although its owner evidently meant it to hold: worth an ERROR, not an INFO line.
    """

    name: str
    passed: bool
    reason: str
    source: str = ""
    mistake: bool = False


@frozen
class Settings:
    """Everything that the bridge is built from; made by `load_settings`.

    Args:
        enabled: The gate's answer.
        checks: Every condition of the gate, in order; the first failed one is why it is off.
        lane: Where product data goes; `None` when off.
        also: A second lane where `OTEL_POSTHOG_SINK=both` asks for it.
        sinks: Further sinks for people who look: `console`, `memory`, `file:PATH`.
        traces_mode: Where the standard traces go, `None` where they are not exported by OTLP.
        logs_mode: The same for the standard logs.
        record_unsampled: `all`, `server` or `off`.
        sources: Setting name -> what decided it, for `otel-posthog status`.
        warnings: What works but not as its owner may think.
    """

    enabled: bool
    checks: tuple[GateCheck, ...] = ()
    lane: Lane | None = None
    also: Lane | None = None
    sinks: tuple[str, ...] = ()
    traces_mode: Mode | None = None
    logs_mode: Mode | None = None
    record_unsampled: str = "all"
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    rules: RulesConfig = field(default_factory=RulesConfig)
    flags: FlagsConfig = field(default_factory=FlagsConfig)
    browser: BrowserConfig = field(default_factory=BrowserConfig)
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    warnings: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why the gate is off (or on), in one sentence."""
        failed = self.failed_check
        return failed.reason if failed else "all conditions of the gate hold"

    @property
    def failed_check(self) -> GateCheck | None:
        """The condition that keeps the gate shut, `None` where it is open; `mistake` in it asks for an ERROR line."""
        return next((check for check in self.checks if not check.passed), None)
