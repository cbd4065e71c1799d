"""TLS and mTLS of both receivers, with certificates that change while they run."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.receivers import Credentials, Listen, Receivers, ReceiverSettings, TlsSettings
from otel_posthog.gateway.receivers.tls import Certificates
from tests.unit.gateway.receivers.rig import METHODS, TIMEOUT, FakeIntake, Raw, Rig, Start, post, request
from tests.unit.gateway.receivers.test_credentials import Clock

Issue = Callable[[trustme.CA], None]


@dataclass
class Secret:
    """Files of a server's certificate, and those who signed it and its clients."""

    settings: TlsSettings
    authority: trustme.CA
    clients: trustme.CA

    def issue(self, authority: trustme.CA) -> None:
        """Writes a certificate of another authority."""
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(self.settings.key_file))
        self.settings.cert_file.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))

    def trust(self, clients: trustme.CA) -> None:
        """Writes another authority of clients."""
        assert self.settings.client_ca_file is not None
        clients.cert_pem.write_to_path(str(self.settings.client_ca_file))


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    """A certificate for loopback; clients must show one too."""
    made = Secret(
        TlsSettings(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "clients.pem"), trustme.CA(), trustme.CA()
    )
    made.issue(made.authority)
    made.trust(made.clients)
    return made


def plain(secret: Secret) -> TlsSettings:
    """The same without certificates of clients."""
    return TlsSettings(secret.settings.cert_file, secret.settings.key_file)


# --- clients -------------------------------------------------------------------------------------------------------


def over_http(rig: Rig, authority: trustme.CA, client: trustme.LeafCert | None = None, **versions: Any) -> str:
    """What one HTTPS request comes to: a status, or `refused`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    for name, version in versions.items():
        setattr(context, name, version)
    try:
        with (
            socket.create_connection(("127.0.0.1", rig.http), timeout=TIMEOUT) as bare,
            context.wrap_socket(bare, server_hostname="localhost") as secured,
        ):
            secured.sendall(request(body=b"x" * 200_000))
            return secured.recv(65536).split()[1].decode()
    except (ssl.SSLError, ConnectionError, IndexError):
        return "refused"


def over_grpc(rig: Rig, authority: trustme.CA, client: trustme.LeafCert | None = None) -> str:
    """What one gRPC call with TLS comes to."""
    key = client.private_key_pem.bytes() if client else None
    chain = b"".join(blob.bytes() for blob in client.cert_chain_pems) if client else None
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{rig.grpc}", credentials, options) as channel:
        try:
            channel.unary_unary(METHODS["traces"])(b"x" * 200_000, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return "refused" if error.code() is grpc.StatusCode.UNAVAILABLE else error.code().name
    return "200"


OVER = pytest.mark.parametrize("over", [over_http, over_grpc])
Over = Callable[..., str]


# --- who is let in -------------------------------------------------------------------------------------------------


@OVER
def test_tls(start: Start, secret: Secret, over: Over) -> None:
    """Whoever trusts the authority is served; whoever does not goes away."""
    rig = start(http_tls=plain(secret), grpc_tls=plain(secret))
    assert over(rig, secret.authority) == "200"
    assert over(rig, trustme.CA()) == "refused"
    assert [len(inbound.body) for inbound in rig.intake.seen] == [200_000]


@pytest.mark.row(39)
@OVER
def test_mtls(start: Start, secret: Secret, over: Over) -> None:
    """Only clients with a certificate of the right authority get as far as a request."""
    rig = start(http_tls=secret.settings, grpc_tls=secret.settings)
    assert over(rig, secret.authority, secret.clients.issue_cert("client")) == "200"
    assert over(rig, secret.authority) == "refused"
    assert over(rig, secret.authority, trustme.CA().issue_cert("client")) == "refused"
    assert len(rig.intake.seen) == 1


@pytest.mark.row(39)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(start: Start, secret: Secret) -> None:
    """TLS 1.2 and 1.3 are spoken."""
    rig = start(http_tls=plain(secret), grpc=None)
    for version, outcome in ((ssl.TLSVersion.TLSv1_2, "200"), (ssl.TLSVersion.TLSv1_3, "200")):
        assert over_http(rig, secret.authority, maximum_version=version, minimum_version=version) == outcome
    old = {"maximum_version": ssl.TLSVersion.TLSv1_1, "minimum_version": ssl.TLSVersion.TLSv1_1}
    assert over_http(rig, secret.authority, **old) == "refused"
    assert Certificates(plain(secret)).context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.row(38)
def test_who_does_not_shake_hands_is_closed(start: Start, secret: Secret) -> None:
    """Silence, clear text and noise; honest clients are served meanwhile."""
    rig = start(http_tls=plain(secret), grpc_tls=plain(secret), header_timeout=1.0)
    for port in (rig.http, rig.grpc):
        for sent in (b"", request(), b"\x16\x03\x01" + b"\xff" * 500):
            with Raw(port) as client:
                client.send(sent)
                assert over_http(rig, secret.authority) == "200"
                try:
                    while client.socket.recv(65536):
                        pass
                except ConnectionResetError:
                    pass
    assert rig.books.count("receiver_refused", transport="http", why="handshake") == 3


def test_too_many_secured_connections(start: Start, secret: Secret) -> None:
    """No handshake is done to say no, and those that never finish one are counted too."""
    rig = start(http_tls=plain(secret), grpc=None, max_connections=5)
    silent = [rig.connect() for _ in range(5)]
    assert over_http(rig, secret.authority) == "refused"
    for client in silent:
        client.socket.close()
    while (outcome := over_http(rig, secret.authority)) != "200":
        assert outcome == "refused"


# --- certificates that change --------------------------------------------------------------------------------------


@pytest.mark.row(39)
@OVER
def test_a_new_certificate_needs_no_restart(start: Start, secret: Secret, over: Over) -> None:
    """New connections see it; one that is there goes on."""
    rig = start(http_tls=plain(secret), grpc_tls=plain(secret))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    secret.authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", rig.http), timeout=TIMEOUT) as bare,
        context.wrap_socket(bare, server_hostname="localhost") as there,
    ):
        there.sendall(request())
        assert there.recv(65536).startswith(b"HTTP/1.1 200")
        newer = trustme.CA()
        secret.issue(newer)
        rig.receivers.reload_certificates()
        assert (over(rig, newer), over(rig, secret.authority)) == ("200", "refused")
        there.sendall(request())
        assert there.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.row(39)
@OVER
def test_an_authority_that_is_taken_out_is_out(start: Start, secret: Secret, over: Over) -> None:
    """Clients of the old one are refused, those of the new one are let in."""
    rig = start(http_tls=secret.settings, grpc_tls=secret.settings)
    old, newer = secret.clients.issue_cert("client"), trustme.CA()
    assert over(rig, secret.authority, old) == "200"
    secret.trust(newer)
    rig.receivers.reload_certificates()
    assert over(rig, secret.authority, old) == "refused"
    assert over(rig, secret.authority, newer.issue_cert("client")) == "200"


@OVER
def test_a_bad_new_certificate_keeps_the_old(start: Start, secret: Secret, over: Over) -> None:
    """And is said to whoever asked for the reload."""
    rig = start(http_tls=plain(secret), grpc_tls=plain(secret))
    secret.settings.key_file.write_text("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"key\.pem.*cannot be used.*belongs to the first certificate") as caught:
        rig.receivers.reload_certificates()
    assert "canary" not in str(caught.value)
    assert over(rig, secret.authority) == "200"


def test_files_are_looked_at_once_a_second(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    """A change is found by itself; half of one is said, and waited out."""
    clock = Clock()
    certificates = Certificates(plain(secret), monotonic=clock)
    first = certificates.context
    newer = trustme.CA().issue_cert("localhost")
    newer.private_key_pem.write_to_path(str(secret.settings.key_file))
    clock.now += 0.9
    assert certificates.context is first
    clock.now += 0.2
    # The new key and the old certificate.
    assert certificates.context is first
    assert "the certificate before stays in use" in caplog.text
    secret.settings.cert_file.write_bytes(newer.cert_chain_pems[0].bytes())
    clock.now += 1.1
    assert certificates.context is not first
    assert certificates.pem.certificate == newer.cert_chain_pems[0].bytes()


@pytest.mark.row(41)
def test_keys_are_not_shown(secret: Secret) -> None:
    """The bytes for gRPC have no `repr`."""
    assert repr(Certificates(secret.settings).pem) == "Pem(***)"


# --- certificates that cannot be used ------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["cert_file", "key_file", "client_ca_file"])
@pytest.mark.parametrize(
    "content", [None, "", "no PEM at all", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_files_that_cannot_be_used(secret: Secret, which: str, content: str | None) -> None:
    """At start, with the file's name."""
    file: Path = getattr(secret.settings, which)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    settings = ReceiverSettings(http=Listen("127.0.0.1", 0), grpc=None, http_tls=secret.settings)
    with pytest.raises(ConfigError, match=f"{file.name}.*cannot be used"):
        Receivers(settings, FakeIntake(), Credentials(), Books())


def test_a_key_with_a_password_asks_nobody(secret: Secret) -> None:
    """A gateway has no terminal: it says that the key must have none."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(secret.settings.key_file.read_bytes(), None)
    secret.settings.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="the key has no password"):
        Certificates(secret.settings)


def test_clear_text_beside_tls(start: Start, secret: Secret) -> None:
    """Each transport has its own."""
    rig = start(grpc_tls=plain(secret))
    assert post(rig.http).status == 200
    assert over_grpc(rig, secret.authority) == "200"
