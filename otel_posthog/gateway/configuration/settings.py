"""Every setting of the gateway as frozen sections with their defaults; opens nothing.

`bridge_file.py` makes them from `bridge.yaml`, `variables.py` from variables alone; `process/service.py` takes them
apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

from otel_posthog.config.settings import ConvertConfig, DeliveryConfig, Lane, Secret
from otel_posthog.gateway.configuration.reload import Signature
from otel_posthog.gateway.receivers.settings import Listen, ReceiverSettings
from otel_posthog.model.frozen import frozen
from otel_posthog.rules.engine import RuleSet

Acknowledge = Literal["spool", "forward"]
Reload = Literal["auto", "signal"]
LogFormat = Literal["text", "json"]

MIB: Final = 1024 * 1024

DEFAULT_ADMIN: Final = Listen("127.0.0.1", 8887)
"""None of the ports that a Collector (8888, 13133, 55679, 1777) or Prometheus (9090, 9464) has beside it by default."""

DEFAULT_SENDERS: Final = 4
"""Requests to PostHog at the same time: one connection is a thousand events in each round trip and a half."""

GATEWAY_DELIVERY: Final = DeliveryConfig(
    # A request stays in the gateway's journal until all of its events have their end, so nothing is given up here, and
    # what does not fit into the queue waits on disk: memory holds what a second or two of full speed need.
    queue_size=20_000,
    queue_bytes=32 * MIB,
    retry_elapsed=0.0,
    exit_timeout=5.0,
    flush_on_sigterm=False,
)
"""Delivery of one project: no second spool, never tired of retrying."""


@frozen
class LimitSettings:
    """What one request, and all together, may ask of the gateway; the receivers have limits of their own.

    Args:
        request_bytes: One request, as it arrives and inflated. OTLP recommends 64 MiB.
        inflight_bytes: All requests together that are not answered yet.
    """

    request_bytes: int = 64 * MIB
    inflight_bytes: int = 192 * MIB


@frozen
class TokenSettings:
    """Where one credential of a caller comes from; exactly one of `env` and `file`.

    Args:
        caller: Its name, for routing, logs and books.
        env: Variable that holds the token.
        file: File with one token a line.
    """

    caller: str
    env: str = ""
    file: str = ""


@frozen
class SpoolSettings:
    """The gateway's journal.

    Args:
        folder: Its folder; each worker has one of its own in it.
        max_bytes: Bytes of one worker's journal; beyond it callers are told to come again.
        dead_letter_bytes: Bytes of one worker's dead letters; what came first stays, what has no room is counted.
    """

    folder: str
    max_bytes: int = 1024 * MIB
    dead_letter_bytes: int = 64 * MIB


@frozen
class LogSettings:
    """The gateway's own log lines, on standard error.

    Args:
        format: `text` for people, `json` for machines.
        level: Name of a `logging` level, lower case.
    """

    format: LogFormat = "text"
    level: str = "info"


@frozen
class SelfMetricsSettings:
    """Where the gateway's own metrics are pushed to.

    Args:
        endpoint: OTLP/HTTP endpoint; `/v1/metrics` is added where it is not there.
        headers: Sent along; their values are secrets.
        interval: Seconds between two exports.
    """

    endpoint: str
    headers: Mapping[str, Secret] = field(default_factory=dict[str, Secret])
    interval: float = 60.0

    @property
    def url(self) -> str:
        """The endpoint with its path."""
        parts = urlsplit(self.endpoint)
        path = parts.path.rstrip("/")
        return urlunsplit(parts._replace(path=path if path.endswith("/v1/metrics") else f"{path}/v1/metrics"))


@frozen
class MatchSettings:
    """Whose telemetry goes to a project: all that is given must hold.

    Args:
        tokens: Names of the callers' tokens; empty for any caller whose token no project names.
        resource: Resource attribute -> values of which it must have one, as text.
    """

    tokens: tuple[str, ...] = ()
    resource: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tokens or self.resource)


@frozen
class ProjectSettings:
    """One PostHog project.

    Args:
        name: As in the file; safe to show.
        lane: Its capture host and key.
        rules: Its compiled rules.
        documents: What the rules were made from, as JSON text, so that a spooled record can be converted by them after
            they have changed; nothing secret is in it.
        match: Whose telemetry is its own.
        convert: How its items are converted.
        delivery: How its events are delivered.
        senders: Requests to PostHog at the same time.
    """

    name: str
    lane: Lane
    rules: RuleSet
    documents: str = ""
    match: MatchSettings = field(default_factory=MatchSettings)
    convert: ConvertConfig = field(default_factory=lambda: ConvertConfig(honour_carrier=True))
    delivery: DeliveryConfig = GATEWAY_DELIVERY
    senders: int = DEFAULT_SENDERS


@frozen
class GatewaySettings:
    """Everything that the gateway is built from; made by `load_gateway_settings`.

    Args:
        source: The file it was read from, or `the environment`.
        projects: In order of precedence.
        default_project: Name of the project of what no other takes; "" for none: it is refused.
        tokens: Where the callers' credentials come from; empty where none is asked for.
        values: Value of each variable that `tokens` names.
        receivers: Where OTLP is listened to, and how.
        admin: Where health, metrics and the live view are served, `None` for nowhere.
        admin_token: What the live view asks for; `None` shows it to this machine alone.
        limits: What requests may ask.
        acknowledge: What an answer of 200 promises: `spool` (durable) or `forward` (PostHog has it).
        workers: Processes; 0 for one per core.
        reload: `auto` looks at the files every few seconds, `signal` waits for a SIGHUP.
        drain_timeout: Seconds that a stop may take to deliver what has arrived; the rest stays in the spool.
        self_metrics: Where its own metrics are pushed to, `None` for nowhere.
        files: Every file that was read, or is read by a listener: a change of one is a reason to reload.
        seen: How each of them looked just before it was read (`reload.signature_of`), so that no change between the
            reading and the watching goes unnoticed.
        warnings: What works, but not as its owner may think.
    """

    source: str
    projects: tuple[ProjectSettings, ...]
    spool: SpoolSettings
    default_project: str = ""
    tokens: tuple[TokenSettings, ...] = ()
    values: Mapping[str, Secret] = field(default_factory=dict[str, Secret])
    receivers: ReceiverSettings = field(default_factory=ReceiverSettings)
    admin: Listen | None = DEFAULT_ADMIN
    admin_token: Secret | None = None
    limits: LimitSettings = field(default_factory=LimitSettings)
    acknowledge: Acknowledge = "spool"
    workers: int = 1
    reload: Reload = "auto"
    drain_timeout: float = 10.0
    log: LogSettings = field(default_factory=LogSettings)
    self_metrics: SelfMetricsSettings | None = None
    files: tuple[str, ...] = ()
    seen: tuple[Signature | None, ...] = field(default=(), compare=False)
    warnings: tuple[str, ...] = ()
