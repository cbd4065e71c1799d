"""Certificates of the receivers, read again when their files change; a bad new one keeps the old and says so."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.receivers.credentials import Signature, signature
from otel_posthog.gateway.receivers.settings import TlsSettings
from otel_posthog.model.frozen import frozen
from otel_posthog.observe import Complaints

_POLL: Final = 1.0


@frozen
class Pem:
    """What the files said when they were last good together.

    Args:
        certificate: Certificate chain.
        key: Private key.
        client_ca: Authorities of client certificates; `None` where none is asked for.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def __repr__(self) -> str:
        return "Pem(***)"


class Certificates:
    """The certificates that new connections are made with. Safe in any thread.

    Args:
        settings: Which files.
        monotonic: Seconds that never go back.
        complain: Says that changed files cannot be used.

    Raises:
        ConfigError: A file cannot be read or is no such PEM, or the key is not that of the certificate.
    """

    def __init__(
        self,
        settings: TlsSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        complain: Complaints | None = None,
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._complain = complain or Complaints()
        self._lock = threading.Lock()
        self._checked = monotonic()
        self._signatures = self._look()
        self._context, self._pem = self._load()

    @property
    def context(self) -> ssl.SSLContext:
        """For a new connection. Every load makes a new one, so that an authority which was taken out is out."""
        self._poll()
        return self._context

    @property
    def pem(self) -> Pem:
        """The same for gRPC, which wants bytes."""
        self._poll()
        return self._pem

    def reload(self) -> None:
        """Reads the files now.

        Raises:
            ConfigError: As on construction; the certificates before stay.
        """
        with self._lock:
            signatures = self._look()
            self._context, self._pem = self._load()
            self._signatures = signatures

    def _poll(self) -> None:
        now = self._monotonic()
        if now - self._checked < _POLL or not self._lock.acquire(blocking=False):
            return
        try:
            self._checked = now
            signatures = self._look()
            if signatures != self._signatures:
                self._signatures = signatures
                self._context, self._pem = self._load()
        except ConfigError as error:
            self._complain.say("certificates", "%s; the certificate before stays in use", error)
        finally:
            self._lock.release()

    def _look(self) -> tuple[Signature | None, ...]:
        return tuple(signature(path) for path in self._settings.files)

    def _load(self) -> tuple[ssl.SSLContext, Pem]:
        settings = self._settings
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        client_ca: bytes | None = None
        try:
            # The empty password keeps OpenSSL from asking the terminal for one.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
            certificate, key = settings.cert_file.read_bytes(), settings.key_file.read_bytes()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot be used: {_reason(error)}",
                key="tls.cert_file, tls.key_file",
                source=f"{settings.cert_file}, {settings.key_file}",
                hint="Both are PEM; the key has no password and belongs to the first certificate",
            ) from None
        if settings.client_ca_file is not None:
            try:
                context.load_verify_locations(settings.client_ca_file)
                client_ca = settings.client_ca_file.read_bytes()
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"cannot be used: {_reason(error)}",
                    key="tls.client_ca_file",
                    source=str(settings.client_ca_file),
                    hint="It is PEM: one or more certificates of authorities",
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context, Pem(certificate, key, client_ca)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "OpenSSL refuses it"
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
