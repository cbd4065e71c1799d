"""TLS of the lanes by the standard exporters' variables: private roots, client certificates, renewal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trustme

from otel_posthog.config.load import load_settings
from otel_posthog.delivery.build import build_delivery
from otel_posthog.delivery.protocols import Delivery
from otel_posthog.model import LossReason
from tests.unit.delivery.loopback import TOKEN, balanced, event, key, raise_it
from tests.unit.delivery.secured import Secured, client_files

E = "OTEL_EXPORTER_OTLP_"
Deliver = Callable[..., Delivery]


@pytest.fixture
def by_environment() -> Iterator[Deliver]:
    """Builds the delivery that an environment asks for, with quick limits; its books balance at the end."""
    made: list[Delivery] = []

    def build(url: str, *, retry_elapsed: float = 0.3, **environ: object) -> Delivery:
        settings = load_settings(
            {
                f"{E}ENDPOINT": f"{url}/i",
                f"{E}TOKEN": TOKEN,
                "OTEL_POSTHOG_WIRE": "v0",
                **{name: str(value) for name, value in environ.items()},
            },
            flush_interval=0.02,
            retry_initial=0.02,
            retry_max=0.05,
            retry_elapsed=retry_elapsed,
            timeout=60.0,
        )
        made.append(build_delivery(settings, guard=raise_it))
        return made[-1]

    yield build
    for delivery in made:
        delivery.shutdown(1.0)
        balanced(delivery.stats())


@pytest.fixture
def demanding(tmp_path: Path) -> Iterator[Callable[..., tuple[Secured, trustme.CA]]]:
    """Makes TLS servers that want a certificate from their clients, each with the authority that they believe."""
    started: list[Secured] = []

    def make(*, newest: bool = True) -> tuple[Secured, trustme.CA]:
        clients = trustme.CA()
        started.append(Secured(tmp_path, clients=clients, newest=newest).start())
        return started[-1], clients

    yield make
    for server in started:
        server.stop()


def delivered(delivery: Delivery, server: Secured, numbers: Sequence[int] = (1,)) -> bool:
    """Whether these events arrive."""
    assert delivery.submit([event(number) for number in numbers])
    return delivery.flush(20) and {key(event(number)) for number in numbers} <= set(server.store)


def test_a_private_authority(secured: Secured, by_environment: Deliver) -> None:
    """Its PEM file is trusted."""
    assert delivered(by_environment(secured.url, **{f"{E}CERTIFICATE": secured.ca_file}), secured)


def test_a_directory_of_authorities(secured: Secured, tmp_path: Path, by_environment: Deliver) -> None:
    """The standard exporters' client takes one, so we do; an empty one trusts nobody."""
    empty = tmp_path / "empty"
    empty.mkdir()
    delivery = by_environment(secured.url, **{f"{E}CERTIFICATE": empty})
    assert not delivered(delivery, secured)
    assert "cannot be verified" in delivery.stats().last_error


def test_without_it_nothing_is_sent(secured: Secured, by_environment: Deliver) -> None:
    """An unknown authority is never overlooked: no request, a clear word, the event counted as given up."""
    delivery = by_environment(secured.url)
    assert not delivered(delivery, secured)
    stats = delivery.stats()
    assert stats.last_error == (
        "the certificate of localhost cannot be verified (unable to get local issuer certificate): check the CA file"
    )
    assert (stats.delivered, stats.lost) == (0, {LossReason.RETRIES_EXHAUSTED: 1})
    assert secured.seen == []


def test_the_wrong_authority(secured: Secured, tmp_path: Path, by_environment: Deliver) -> None:
    """The file is the only trust: neither the system's roots nor none at all take its place."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    delivery = by_environment(secured.url, **{f"{E}CERTIFICATE": other})
    assert not delivered(delivery, secured)
    assert "the certificate of localhost cannot be verified" in delivery.stats().last_error
    assert secured.seen == []


def test_another_name(tmp_path: Path, by_environment: Deliver) -> None:
    """A good certificate of somebody else is refused, and the word says so."""
    server = Secured(tmp_path, names=("shop.test",)).start()
    try:
        delivery = by_environment(server.url, **{f"{E}CERTIFICATE": server.ca_file})
        assert not delivered(delivery, server)
        assert "Hostname mismatch, certificate is not valid for 'localhost'" in delivery.stats().last_error
        assert server.seen == []
    finally:
        server.stop()


@pytest.mark.parametrize("newest", [True, False], ids=["TLS 1.3", "TLS 1.2"])
def test_a_client_certificate(
    demanding: Callable[..., tuple[Secured, trustme.CA]], tmp_path: Path, by_environment: Deliver, newest: bool
) -> None:
    """Certificate and key in two files or in one."""
    server, clients = demanding(newest=newest)
    certificate, private = client_files(clients, tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + private.read_bytes())
    roots = {f"{E}CERTIFICATE": server.ca_file}
    two = by_environment(server.url, **roots, **{f"{E}CLIENT_CERTIFICATE": certificate, f"{E}CLIENT_KEY": private})
    one = by_environment(server.url, **roots, **{f"{E}CLIENT_CERTIFICATE": both})
    assert delivered(two, server, [1])
    assert delivered(one, server, [2])


def test_a_client_certificate_that_is_missing(
    demanding: Callable[..., tuple[Secured, trustme.CA]], by_environment: Deliver
) -> None:
    """The server's alert is named, with what to check."""
    server, _ = demanding(newest=False)
    delivery = by_environment(server.url, **{f"{E}CERTIFICATE": server.ca_file})
    assert not delivered(delivery, server)
    assert "check the client certificate" in delivery.stats().last_error
    assert server.seen == []


def test_a_client_certificate_that_nobody_knows(
    demanding: Callable[..., tuple[Secured, trustme.CA]], tmp_path: Path, by_environment: Deliver
) -> None:
    """It is refused, whatever is left of the word when TLS 1.3 hangs up; nothing is stored."""
    server, _ = demanding()
    certificate, private = client_files(trustme.CA(), tmp_path)
    files = {f"{E}CERTIFICATE": server.ca_file, f"{E}CLIENT_CERTIFICATE": certificate, f"{E}CLIENT_KEY": private}
    delivery = by_environment(server.url, **files)
    assert not delivered(delivery, server)
    assert "localhost" in delivery.stats().last_error
    assert server.seen == []


def test_certificates_are_renewed_in_place(
    demanding: Callable[..., tuple[Secured, trustme.CA]], tmp_path: Path, by_environment: Deliver
) -> None:
    """What failed with the old files goes with the new ones, without a restart; so does what met half-written ones."""
    server, clients = demanding()
    old = client_files(trustme.CA(), tmp_path)
    files = {f"{E}CERTIFICATE": server.ca_file, f"{E}CLIENT_CERTIFICATE": old[0], f"{E}CLIENT_KEY": old[1]}
    delivery = by_environment(server.url, retry_elapsed=60, **files)
    assert delivery.submit([event(1)])
    assert not delivery.flush(0.5)
    old[1].write_text("half of a key")
    assert not delivery.flush(0.5)
    assert delivery.stats().lost == {}
    client_files(clients, tmp_path)
    assert delivery.flush(60)
    assert set(server.store) == {key(event(1))}
