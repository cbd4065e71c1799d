"""The scripted loopback server behind TLS, with certificates made for the test, and those who may talk to it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.unit.delivery.loopback import Server


class Secured(Server):
    """A `Server` that speaks TLS.

    Args:
        folder: Where the files go.
        names: Whom its certificate names.
        clients: Accept only clients with a certificate of this authority.
        newest: TLS 1.3; otherwise 1.2, where a client that is refused hears of it in the handshake.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        clients: trustme.CA | None = None,
        newest: bool = True,
    ) -> None:
        super().__init__()
        authority = trustme.CA()
        self.ca_file = folder / f"ca-{self.server_port}.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest else ssl.TLSVersion.TLSv1_2
        context.maximum_version = context.minimum_version
        authority.issue_cert(*names).configure_cert(context)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            clients.configure_trust(context)
        # The handshake belongs to the connection's own thread: one client that is refused must not stop the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://localhost:{self.server_port}"

    def start(self) -> Secured:
        """Serves."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends serving."""
        self.over.set()
        self.shutdown()
        self.server_close()
        self._thread.join(60)


def client_files(authority: trustme.CA, folder: Path, name: str = "client") -> tuple[Path, Path]:
    """Certificate and key of a client that `authority` vouches for."""
    made = authority.issue_cert("client.test")
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    made.cert_chain_pems[0].write_to_path(str(certificate))
    made.private_key_pem.write_to_path(str(key))
    return certificate, key


def encrypt(key: Path, passphrase: bytes = b"sesame") -> None:
    """Puts a passphrase on a key's file."""
    from cryptography.hazmat.primitives import serialization as forms

    loaded = forms.load_pem_private_key(key.read_bytes(), None)
    locked = forms.BestAvailableEncryption(passphrase)
    key.write_bytes(loaded.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, locked))


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    """A TLS server that asks no client for a certificate."""
    made = Secured(tmp_path).start()
    yield made
    made.stop()
