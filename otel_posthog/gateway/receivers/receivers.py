"""`Receivers`: both transports as one thing that starts, stops accepting, and stops."""

from __future__ import annotations

import importlib
import time

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.inbound import Intake
from otel_posthog.gateway.receivers.credentials import Credentials
from otel_posthog.gateway.receivers.desk import Desk
from otel_posthog.gateway.receivers.grpc_server import GrpcServer
from otel_posthog.gateway.receivers.http_server import HttpServer
from otel_posthog.gateway.receivers.settings import ReceiverSettings
from otel_posthog.gateway.receivers.tls import Certificates
from otel_posthog.observe import Complaints

INSTALL = "pip install 'otel-posthog[gateway]'"


class Receivers:
    """OTLP/HTTP and OTLP/gRPC.

    The caller has seen to it, by `check_listen`, that nobody on a network may send without saying who he is.

    Args:
        settings: Addresses and limits.
        intake: Takes the requests.
        credentials: Who may send.
        books: Counts `receiver_requests{transport,kind,answer}`, `receiver_bytes{transport}`,
            `receiver_refused{transport,why}`, `receiver_faults{transport,where}`; times `receiver_ack{transport}`.
        complain: Log lines, each seldom.

    Raises:
        ConfigError: An address cannot be listened on, a certificate cannot be used, or a package is missing.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        intake: Intake,
        credentials: Credentials,
        books: Books,
        *,
        complain: Complaints | None = None,
    ) -> None:
        _require_packages(settings)
        complain = complain or Complaints()
        self._certificates: list[Certificates] = []
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        http_tls = Certificates(settings.http_tls, complain=complain) if settings.http_tls else None
        grpc_tls = Certificates(settings.grpc_tls, complain=complain) if settings.grpc_tls else None
        self._certificates = [each for each in (http_tls, grpc_tls) if each is not None]
        try:
            if settings.http is not None:
                desk = Desk("http", intake, credentials, books, complain)
                self._http = HttpServer(settings.http, settings, desk, http_tls)
            if settings.grpc is not None:
                desk = Desk("grpc", intake, credentials, books, complain)
                self._grpc = GrpcServer(settings.grpc, settings, desk, grpc_tls)
        except ConfigError:
            self.stop(0.0)
            raise

    @property
    def http_port(self) -> int | None:
        """The port of OTLP/HTTP, resolved; `None` where it is off."""
        return self._http.port if self._http else None

    @property
    def grpc_port(self) -> int | None:
        """The port of OTLP/gRPC, resolved; `None` where it is off."""
        return self._grpc.port if self._grpc else None

    def start(self) -> None:
        """Returns when both answer requests."""
        if self._http is not None:
            self._http.start()
        if self._grpc is not None:
            self._grpc.start()

    def dead_threads(self) -> tuple[str, ...]:
        """Names of threads that were started and have ended; while it serves there should be none."""
        thread = self._http._thread if self._http is not None else None
        ended = thread is not None and thread.ident is not None and not thread.is_alive()
        return (thread.name,) if thread is not None and ended else ()

    def reload_certificates(self) -> None:
        """Reads certificates now; they are also read when their files change.

        Raises:
            ConfigError: One of them cannot be used; what was there before stays in use.
        """
        for certificates in self._certificates:
            certificates.reload()

    def stop_accepting(self) -> None:
        """Takes no new connections and requests: whoever has one is told to try elsewhere. What has begun goes on."""
        if self._http is not None:
            self._http.stop_accepting()
        if self._grpc is not None:
            self._grpc.stop_accepting()

    def stop(self, timeout: float = 10.0) -> None:
        """Ends both, at most `timeout` seconds after what is in flight; idempotent."""
        deadline = time.monotonic() + timeout
        if self._http is not None and self._grpc is not None:
            self._grpc.stop_accepting()
        if self._http is not None:
            self._http.stop(timeout)
        if self._grpc is not None:
            self._grpc.stop(max(0.0, deadline - time.monotonic()))


def _require_packages(settings: ReceiverSettings) -> None:
    wanted = [*(["httptools"] if settings.http else []), *(["grpc"] if settings.grpc else [])]
    try:
        for name in [*wanted, "opentelemetry.proto", "google.rpc"]:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"the gateway needs the package {error.name}", hint=f"Install it: {INSTALL}") from None
