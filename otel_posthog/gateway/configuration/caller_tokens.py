"""From the settings' tokens to the receivers' credentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from otel_posthog.config.settings import Secret
from otel_posthog.gateway.configuration.settings import TokenSettings
from otel_posthog.gateway.receivers.credentials import Credentials, TokenSource


def token_sources(tokens: Sequence[TokenSettings]) -> list[TokenSource]:
    """Settings of tokens as the receivers have them."""
    return [TokenSource(each.caller, each.env or None, Path(each.file) if each.file else None) for each in tokens]


def credentials_of(tokens: Sequence[TokenSettings], values: Mapping[str, Secret]) -> Credentials:
    """The receivers' credentials behind settings.

    Raises:
        ConfigError: One has no token, or one that no header can carry, or two callers have the same.
    """
    return Credentials(token_sources(tokens), environ={name: value.reveal() for name, value in values.items()})
