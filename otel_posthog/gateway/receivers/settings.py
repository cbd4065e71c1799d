"""What the receivers can be told. Every default is a bound: nothing that a peer does is without an end."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_posthog.model.frozen import frozen

MIB: Final = 1024 * 1024


@frozen
class Listen:
    """An address to listen on.

    Args:
        host: An IP address or a name of this machine. Loopback by default: whoever opens the gateway to a network
            says so.
        port: 0 for a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class TlsSettings:
    """Certificates in PEM, read again when one of the files changes.

    Args:
        cert_file: The certificate, followed by its intermediates.
        key_file: Its private key, without a password.
        client_ca_file: Authorities of client certificates: where set, only clients that show one are let in (mTLS).
    """

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, for whoever watches them."""
        return (self.cert_file, self.key_file, *((self.client_ca_file,) if self.client_ca_file else ()))


@frozen
class ReceiverSettings:
    """Addresses and limits of both receivers.

    Args:
        http: Where OTLP/HTTP listens; `None` for nowhere.
        grpc: Where OTLP/gRPC listens; `None` for nowhere.
        http_tls: TLS of OTLP/HTTP; `None` for clear text.
        grpc_tls: TLS of OTLP/gRPC; `None` for clear text.
        max_body: Bytes of one request as it arrives. What it inflates to is the intake's limit.
        max_header: Bytes of one request's line and headers (HTTP), or of its metadata (gRPC).
        header_timeout: Seconds for a handshake and for the headers of a request.
        body_timeout: Seconds for the body of a request.
        idle_timeout: Seconds that an HTTP connection may wait for its next request. Above the 90 s of the Collector's
            client, so that the client is the one that closes and no request meets a closing connection.
        answer_timeout: Seconds that a request waits for its answer; then it is told to come again. In `forward` mode
            above what PostHog may take.
        max_connections: Open connections of each receiver. Over it, HTTP closes the longest idle one, or answers 503.
        max_connections_per_peer: The same for one IP address, OTLP/HTTP only; 0 for no such limit. Load balancers
            make many clients one address.
        grpc_threads: gRPC requests at a time; each waits for its answer in a thread. With `max_body` this bounds the
            memory of gRPC requests that are being read.
        grpc_streams: Requests at a time on one gRPC connection; a client waits with the next one.
        grpc_connection_age: Seconds after which a gRPC client is asked to connect again, so that load spreads over
            gateways that were added since.
        grpc_connection_grace: Seconds that such a connection may take to finish what it has begun.
        keepalive: Seconds between pings on quiet gRPC connections.
        reuse_port: Whether several processes listen on one port (SO_REUSEPORT), for workers.
    """

    http: Listen | None = Listen("127.0.0.1", 4318)
    grpc: Listen | None = Listen("127.0.0.1", 4317)
    http_tls: TlsSettings | None = None
    grpc_tls: TlsSettings | None = None
    max_body: int = 64 * MIB
    max_header: int = 32 * 1024
    header_timeout: float = 10.0
    body_timeout: float = 60.0
    idle_timeout: float = 120.0
    answer_timeout: float = 30.0
    max_connections: int = 1000
    max_connections_per_peer: int = 500
    grpc_threads: int = 32
    grpc_streams: int = 128
    grpc_connection_age: float = 180.0
    grpc_connection_grace: float = 60.0
    keepalive: float = 60.0
    reuse_port: bool = False
