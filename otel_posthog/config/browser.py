"""What the settings of pages come to: which project they belong to, and where browsers find PostHog."""

from __future__ import annotations

import re
from typing import Final

from otel_posthog.config.endpoint import INGESTION_HOSTS, parse_endpoint
from otel_posthog.config.project import project_of
from otel_posthog.config.settings import BrowserConfig, Settings
from otel_posthog.errors import ConfigError
from otel_posthog.model.frozen import frozen

HOST: Final = "OTEL_POSTHOG_BROWSER_HOST"
TOKEN: Final = "OTEL_POSTHOG_BROWSER_TOKEN"  # noqa: S105 - the name of the variable
RELAY: Final = "OTEL_POSTHOG_BROWSER_RELAY"
CONSENT: Final = "OTEL_POSTHOG_BROWSER_CONSENT"

_PROJECT_KEY: Final = r"(?!(?i:ph[abd-z]_))[A-Za-z0-9_-]{1,64}"
"""A project API key: `phc_…`, older ones without a prefix; never one of PostHog's other kinds of keys."""
_RELAY: Final = r"/[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*"
_CONSENT: Final = r"granted|required|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"


@frozen
class BrowserTarget:
    """What a page needs to know of PostHog.

    Args:
        token: Project API key; in every page for all to see.
        host: Where browsers send to, without trailing slash.
        assets: Where posthog-js comes from, without trailing slash.
        ui: PostHog's web application, for links.
    """

    token: str
    host: str
    assets: str
    ui: str


def is_project_key(token: str) -> bool:
    """Whether `token` may stand in a page: not a personal key, a secret one, or something else altogether."""
    return re.fullmatch(_PROJECT_KEY, token) is not None


def mistakes(config: BrowserConfig) -> list[ConfigError]:
    """What is wrong with these settings."""
    errors: list[ConfigError] = []
    if config.host:
        try:
            parse_endpoint(config.host, HOST)
        except ConfigError as error:
            errors.append(error)
    if config.token and not is_project_key(config.token.reveal()):
        errors.append(
            ConfigError(
                "this is no project API key",
                key=TOKEN,
                hint="It stands in pages for all to see: use the project API key (phc_…)",
            )
        )
    if config.relay and not re.fullmatch(_RELAY, config.relay):
        errors.append(
            ConfigError("this is no path", key=RELAY, hint="Write it as /relay, without a host or a slash at its end")
        )
    if config.consent and not re.fullmatch(_CONSENT, config.consent):
        errors.append(
            ConfigError(
                "this is not known",
                key=CONSENT,
                hint="Use granted, required, or the name of a function, as app.consent:of",
            )
        )
    return errors


def browser_target(settings: Settings) -> tuple[BrowserTarget | None, str]:
    """What pages need to know of PostHog, or `None` and why nothing is written into them.

    Args:
        settings: Enabled or not.
    """
    config = settings.browser
    if not settings.enabled:
        return None, settings.reason
    if not config.enabled:
        return None, "OTEL_POSTHOG_BROWSER is false"
    project = project_of(settings, host=(HOST, config.host), token=(TOKEN, config.token))
    if project.missing:
        return None, project.missing
    host, token = project.host, project.token.reveal()
    if not is_project_key(token):
        return None, f"the token is no project API key, and would stand in the page: set {TOKEN}"
    scheme, _, name = host.partition("://")
    assets, ui = host, host
    if name in INGESTION_HOSTS:
        assets = f"{scheme}://{name.replace('.i.', '-assets.i.', 1)}"
        ui = f"{scheme}://{name.replace('.i.', '.', 1)}"
    return BrowserTarget(token, host, assets, ui), ""


__all__ = ["BrowserTarget", "browser_target", "is_project_key", "mistakes"]
