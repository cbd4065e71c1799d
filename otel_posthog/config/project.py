"""Which PostHog project pages and flags speak with: their own settings, else the lane's if that leads to PostHog."""

from __future__ import annotations

from typing import Final

from otel_posthog.config.endpoint import parse_endpoint
from otel_posthog.config.settings import Mode, Secret, Settings
from otel_posthog.model.frozen import frozen

_NO_KEY: Final = Secret("")


@frozen
class Project:
    """Where PostHog is, and which project.

    Args:
        host: PostHog's address, without trailing slash or `/i`; "" where it is not known.
        token: Project API key; empty where it is not known.
        missing: Why one of them is not known, and which variables say it; "" where both are.
    """

    host: str
    token: Secret
    missing: str = ""


def project_of(settings: Settings, *, host: tuple[str, str], token: tuple[str, Secret]) -> Project:
    """The project of a feature that has settings of its own.

    Args:
        settings: Enabled.
        host: Name of its variable, and its value.
        token: The same of its key.
    """
    # The token of a Collector is no key of PostHog's, and its address answers nothing but telemetry.
    lane = next((lane for lane in (settings.lane, settings.also) if lane and lane.mode is Mode.DIRECT), None)
    own = parse_endpoint(host[1], host[0]).capture_host if host[1] else ""
    # A key belongs to the host that it was given with.
    found = own or (lane.url if lane else "")
    key = token[1] or (lane.token if lane and not own else _NO_KEY)
    names = [name for name, value in ((host[0], found), (token[0], key)) if not value]
    if not names:
        return Project(found, key)
    where = "product data goes to a Collector" if lane is None else "another host has another key"
    return Project(found, key, f"{where}: set {' and '.join(names)}")


__all__ = ["Project", "project_of"]
