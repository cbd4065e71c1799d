"""What the settings of feature flags come to: whom to ask, and with which key."""

from __future__ import annotations

from typing import Final

from otel_posthog.config.endpoint import parse_endpoint
from otel_posthog.config.project import project_of
from otel_posthog.config.settings import FlagsConfig, Secret, Settings
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
        ca_file: PEM file, or hashed directory, of the only roots to trust, where the lane leads to the same host; ""
            for what `requests` trusts.
        client_cert: PEM file of the client's certificate, likewise.
        client_key: PEM file of its key, likewise.
    """

    host: str
    token: Secret
    secret_key: Secret
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""


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
    project = project_of(settings, host=(HOST, config.host), token=(TOKEN, config.token))
    if project.missing:
        return None, project.missing
    # The files of OTEL_EXPORTER_OTLP_CERTIFICATE … belong to the host that they were given with.
    lane = next((one for one in (settings.lane, settings.also) if one and one.url == project.host), None)
    files = (lane.ca_file, lane.client_cert, lane.client_key) if lane else ()
    return FlagsTarget(project.host, project.token, config.secret_key, *files), ""


__all__ = ["FlagsTarget", "flags_target", "mistakes"]
