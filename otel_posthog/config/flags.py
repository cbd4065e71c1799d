"""What the settings of feature flags come to: whom to ask, and with which key."""

from __future__ import annotations

from typing import Final

from otel_posthog.config.endpoint import parse_endpoint
from otel_posthog.config.settings import FlagsConfig, Mode, Secret, Settings
from otel_posthog.errors import ConfigError
from otel_posthog.model.frozen import frozen

HOST: Final = "OTEL_POSTHOG_FLAGS_HOST"
TOKEN: Final = "OTEL_POSTHOG_FLAGS_TOKEN"  # noqa: S105 - the name of the variable
SECRET_KEY: Final = "OTEL_POSTHOG_FLAGS_SECRET_KEY"  # noqa: S105 - as above

_SECRET: Final = ("phx_", "phs_")
"""How personal keys and project secret keys begin; project API keys begin with `phc_`."""


@frozen
class FlagsTarget:
    """Whom to ask for flags.

    Args:
        host: PostHog's address, without trailing slash or `/i`.
        token: Project API key.
        secret_key: Key for local evaluation; empty for none.
    """

    host: str
    token: Secret
    secret_key: Secret


def mistakes(config: FlagsConfig) -> list[ConfigError]:
    """What is wrong with these settings."""
    errors: list[ConfigError] = []
    if config.host:
        try:
            parse_endpoint(config.host, HOST)
        except ConfigError as error:
            errors.append(error)
    if config.token.reveal().startswith(_SECRET):
        errors.append(
            ConfigError(
                "this is a personal or secret key",
                key=TOKEN,
                hint="Flags are asked for with the project API key (phc_…)",
            )
        )
    if config.secret_key.reveal().startswith("phc_"):
        errors.append(
            ConfigError(
                "this is a project API key",
                key=SECRET_KEY,
                hint="Local evaluation needs a personal key (phx_…) or a project secret key (phs_…)",
            )
        )
    return errors


def flags_target(settings: Settings) -> tuple[FlagsTarget | None, str]:
    """Whom to ask for flags, or `None` and why nobody is asked.

    Args:
        settings: Enabled or not.
    """
    config = settings.flags
    if not settings.enabled:
        return None, settings.reason
    if not config.enabled:
        return None, "OTEL_POSTHOG_FLAGS is false"
    # The token of a Collector is no key of PostHog's, and its address does not answer flags.
    posthog = next((lane for lane in (settings.lane, settings.also) if lane and lane.mode is Mode.DIRECT), None)
    host = parse_endpoint(config.host, HOST).capture_host if config.host else posthog.url if posthog else ""
    token = config.token or (posthog.token if posthog and not config.host else Secret(""))
    missing = [name for name, value in ((HOST, host), (TOKEN, token)) if not value]
    if missing:
        where = (
            "product data goes to a Collector, which knows no flags"
            if posthog is None
            else "another host has another key"
        )
        return None, f"{where}: set {' and '.join(missing)}"
    return FlagsTarget(host, token, config.secret_key), ""


__all__ = ["FlagsTarget", "flags_target", "mistakes"]
