"""OTLP receivers: bytes on sockets -> `Inbound`, `Answer` -> status codes. `Receivers` is the whole of it."""

from otel_posthog.gateway.receivers.credentials import Credentials, TokenSource, check_listen
from otel_posthog.gateway.receivers.receivers import Receivers
from otel_posthog.gateway.receivers.settings import Listen, ReceiverSettings, TlsSettings

__all__ = [
    "Credentials",
    "Listen",
    "ReceiverSettings",
    "Receivers",
    "TlsSettings",
    "TokenSource",
    "check_listen",
]
