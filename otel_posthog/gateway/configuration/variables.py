"""The simple case: one project, from the same variables that switch the bridge on in a process. No file is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from otel_posthog.config import environment as names
from otel_posthog.config.load import DEFAULT, load_settings
from otel_posthog.config.settings import DeliveryConfig, Lane
from otel_posthog.config.values import text_of
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.hosts import capture_host
from otel_posthog.gateway.configuration.project_rules import load_project_rules
from otel_posthog.gateway.configuration.settings import GATEWAY_DELIVERY, ProjectSettings

NAME: Final = "default"
"""Name of the project that the environment describes."""

_DELIVERY: Final = (
    "queue_size", "queue_bytes", "batch_size", "batch_bytes", "flush_interval", "timeout", "retry_initial", "retry_max",
    "compression", "wire",
)  # fmt: skip
"""What of the delivery's variables holds for the gateway too; its spool is another, and it never gives up."""


def project_of_environment(environ: Mapping[str, str]) -> tuple[ProjectSettings, tuple[str, ...], tuple[str, ...]]:
    """The project of `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_EXPORTER_OTLP_TOKEN`.

    Args:
        environ: The environment.

    Returns:
        The project, the files that were read for it, and what its owner should know.

    Raises:
        ConfigError: A variable is missing or wrong.
    """
    chosen = text_of(environ, "OTEL_POSTHOG_MODE").lower()
    # Whoever sets the mode has said that the endpoint, whatever its host, is a PostHog: that of their own.
    settings = load_settings({**environ, "OTEL_POSTHOG_MODE": "direct"})
    lane = settings.lane
    if lane is None:
        failed = settings.failed_check
        raise ConfigError(
            settings.reason,
            key=failed.source if failed is not None else names.ENDPOINT,
            hint=f"Set {names.ENDPOINT}=https://eu.i.posthog.com (or us) and {names.TOKEN}=phc_…, "
            "or name a file: --config bridge.yaml",
        )
    try:
        url = capture_host(lane.url, names.ENDPOINT, self_hosted=chosen == "direct", allow_http=chosen == "direct")
    except ConfigError as error:
        own = chosen != "direct" and "of PostHog's cloud" in str(error)
        raise ConfigError(
            str(error).removeprefix(f"`{names.ENDPOINT}`: ").partition(". ")[0],
            key=names.ENDPOINT,
            hint="For a PostHog of your own set OTEL_POSTHOG_MODE=direct"
            if own
            else "Write https://eu.i.posthog.com or https://us.i.posthog.com",
        ) from None
    rules = load_project_rules([settings.rules.path] if settings.rules.path else [], defaults=settings.rules.defaults)
    project = ProjectSettings(
        name=NAME,
        lane=Lane(lane.mode, url, lane.token, {}, lane.ca_file, lane.client_cert, lane.client_key),
        rules=rules.rules,
        documents=rules.documents,
        convert=replace(settings.convert, honour_carrier=True, trust_headers=settings.identity.headers),
        delivery=_delivery(settings.delivery, settings.sources),
    )
    files = (settings.rules.path, lane.ca_file, lane.client_cert, lane.client_key)
    return project, tuple(file for file in files if file), settings.warnings


def _delivery(said: DeliveryConfig, sources: Mapping[str, str]) -> DeliveryConfig:
    """The gateway's own delivery with what somebody has set in the environment."""
    own = {name: getattr(said, name) for name in _DELIVERY if sources.get(f"delivery.{name}", DEFAULT) != DEFAULT}
    return replace(GATEWAY_DELIVERY, **own)
