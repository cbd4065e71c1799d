"""Where a call goes: what spans say of it, and which hosts are our own."""

from __future__ import annotations

from typing import Any

import pytest

from otel_posthog.context.destination import OwnHosts, destination_of, destinations_of, is_internal, is_message

OWN = [
    "localhost",
    "orders",
    "orders-v2",
    "orders.shop.svc",
    "orders.shop.svc.cluster.local",
    "db.internal",
    "x.localhost",
    "Orders.",
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "::1",
    "fd00::1",
    "[fd00::1]",
    "::ffff:10.0.0.1",
    "0.0.0.0",
]
FOREIGN = [
    "example.com",
    "api.stripe.com",
    "internal.example.com",
    "svc.example",
    "x.internal.evil",
    "notlocal.com",
    "-",
    "|a|b|",
    "8.8.8.8",
    "172.32.0.1",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
    "169.254.169.254",
    "fe80::1%eth0",
    "134744072",
    "0x08080808",
    "8.8",
    "0x7f.1",
]


@pytest.mark.parametrize(
    ("attributes", "destination"),
    [
        ({"url.full": "https://Api.Example.com/v1?x=1"}, "api.example.com:443"),
        ({"url.full": "http://user:secret@orders:8080/x"}, "orders:8080"),
        ({"http.url": "http://10.0.0.7/x"}, "10.0.0.7:80"),
        ({"http.url": "http://[::1]:9000/x"}, "[::1]:9000"),
        ({"url.full": "http://internal@evil.example"}, "evil.example:80"),
        ({"url.full": "http://[bad", "server.address": "orders"}, ""),
        ({"url.full": "http://host:99999/"}, ""),
        ({"server.address": "orders", "server.port": 50051}, "orders:50051"),
        ({"server.address": "fd00::1"}, "[fd00::1]"),
        ({"net.peer.name": "Orders.", "net.peer.port": "80"}, "orders:80"),
        ({"http.host": "orders:8080"}, "orders:8080"),
        ({"url.full": 7, "server.address": ""}, ""),
        ({}, ""),
    ],
)
def test_what_a_span_says(attributes: dict[str, Any], destination: str) -> None:
    """The old and the new convention; what cannot be read is no destination."""
    assert destination_of(attributes) == destination


@pytest.mark.parametrize(
    "host",
    OWN,
)
def test_evidently_internal(host: str) -> None:
    """Loopback, private addresses, single labels and the usual suffixes."""
    assert is_internal(host)


@pytest.mark.parametrize(
    "host",
    FOREIGN,
)
def test_not_evidently_internal(host: str) -> None:
    """Everything else, also numbers that a resolver takes for an address, and the cloud's metadata service."""
    assert not is_internal(host)


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (("internal",), ["orders:80", "10.0.0.1"], ["example.com:443", ""]),
        (
            ("*.example.com",),
            ["api.example.com:443"],
            ["example.com", "orders", "api.example.com.evil"],
        ),
        (("internal", "*.example.com"), ["orders", "a.example.com"], ["example.org"]),
        (("orders:8080",), ["orders:8080"], ["orders:8081", "orders"]),
        (("internal", "!127.0.0.1:9000", "!legacy"), ["127.0.0.1:9001"], ["127.0.0.1:9000", "legacy:80"]),
        (("10.0.?.1",), ["10.0.5.1:80"], ["10.0.55.1"]),
        ((), [], ["orders", "127.0.0.1"]),
        (("*", "!evil.example"), ["anything.example"], ["evil.example:80", ""]),
    ],
)
def test_which_hosts_are_ours(patterns: tuple[str, ...], yes: list[str], no: list[str]) -> None:
    """By pattern, with a port or without, with exceptions; asked twice, the same."""
    hosts = OwnHosts(patterns)
    for _ in range(2):
        assert [host in hosts for host in yes] == [True] * len(yes)
        assert [host in hosts for host in no] == [False] * len(no)
    assert 7 not in hosts


def test_a_pattern_is_no_regular_expression() -> None:
    """Dots are dots, and nothing else means anything."""
    hosts = OwnHosts(("a.b", "(x|y)+"))
    assert "a.b" in hosts
    assert "aXb" not in hosts
    assert "xy" not in hosts


def test_messages() -> None:
    """What is handed to a broker."""
    assert is_message({"messaging.system": "kafka"})
    assert is_message({"celery.action": "apply_async"})
    assert not is_message({"url.full": "http://x"})


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (["orders:50051"], ("orders:50051",)),
        (["dns:///orders:50051"], ("orders:50051",)),
        (["dns://8.8.8.8/orders:50051"], ("orders:50051",)),
        (["dns:orders:50051", "passthrough:///Orders"], ("orders:50051", "orders")),
        (["ipv4:10.0.0.1:80,8.8.8.8:81"], ("10.0.0.1:80", "8.8.8.8:81")),
        (["ipv6:[::1]:50051", "[fd00::1]:9092"], ("[::1]:50051", "[fd00::1]:9092")),
        (["unix:/run/orders.sock", "unix:///run/orders.sock"], ("localhost", "localhost")),
        (["xds:///orders.example"], ("orders.example",)),
        (["a:9092, b.example:9092"], ("a:9092", "b.example:9092")),
        (["PLAINTEXT://b.example:9092"], ("b.example:9092",)),
        (["orders@evil.example:80"], ("evil.example:80",)),
        (["orders:50051", ""], ()),
        (["orders:50051", None], ()),
        (["orders:x"], ()),
        ([], ()),
    ],
)
def test_what_channels_and_producers_are_made_with(targets: list[object], found: tuple[str, ...]) -> None:
    """Every address in its spelling; where one of them is none, none is known."""
    assert destinations_of(targets) == found
