"""What own services share: which hosts they are, and the secrets by which they believe each other."""

from __future__ import annotations

from collections.abc import Sequence

from otel_posthog.config.settings import Secret
from otel_posthog.errors import ConfigError

MIN_SECRET = 16
"""Characters: what a person can remember can be found out from one signature."""
INTERNAL = "internal"
"""In a list of hosts: those that are evidently internal."""


def check_hosts(patterns: Sequence[str], source: str) -> None:
    """Looks whether these are patterns of hosts.

    Args:
        patterns: As they were written.
        source: What said so, for the message.

    Raises:
        ConfigError: One of them is none.
    """
    for pattern in patterns:
        text = pattern.removeprefix("!")
        if not text or "/" in text or any(letter.isspace() for letter in text):
            problem = f"{pattern[:40]!r} is no host"
        elif pattern == f"!{INTERNAL}":
            problem = f"{pattern!r} says nothing"
        else:
            continue
        raise ConfigError(
            problem,
            key="OTEL_POSTHOG_BAGGAGE_HOSTS",
            source=source,
            hint=f"Use names such as *.example.com or orders:8080, and {INTERNAL} for what is evidently internal",
        )


def baggage_secrets(given: Sequence[Secret], path: str) -> tuple[Secret, ...]:
    """The secrets that were given, and those in the file.

    Args:
        given: From the environment, or arguments.
        path: File of one secret a line; blank lines and those that begin with `#` count for nothing; "" for none.

    Raises:
        ConfigError: The file cannot be read or has none, or one of them is too short.
    """
    found = list(given)
    key = "OTEL_POSTHOG_BAGGAGE_SECRET"
    if path:
        key = "OTEL_POSTHOG_BAGGAGE_SECRET_FILE"
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs an import in every process
                lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise ConfigError(
                f"cannot be read: {why}", key=key, source=path, hint="One secret a line, readable by this process"
            ) from None
        listed = [Secret(line) for line in lines if line and not line.startswith("#")]
        if not listed:
            raise ConfigError("has no secret in it", key=key, source=path, hint="Write one a line")
        found += listed
    for secret in found:
        if len(secret.reveal()) < MIN_SECRET:
            raise ConfigError(
                f"a secret has {len(secret.reveal())} characters",
                key=key,
                source=path or "environment",
                hint=f"Use {MIN_SECRET} or more, such as the output of `openssl rand -hex 32`",
            )
    return tuple(dict.fromkeys(found))
