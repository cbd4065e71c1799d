"""Where a call goes, and whether identity may go along: to hosts that are evidently our own, or that are listed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from otel_posthog.config.sharing import INTERNAL

ANYWHERE: Final = "*"

_URLS: Final = ("url.full", "http.url")
_HOSTS: Final = (
    ("server.address", "server.port"),
    ("net.peer.name", "net.peer.port"),
    ("http.host", ""),
    ("net.peer.ip", "net.peer.port"),
)
_SCHEMES: Final = ("dns", "ipv4", "ipv6", "xds", "passthrough")
_MESSAGING: Final = "messaging."
_SUFFIXES: Final = (".svc", ".internal", ".local", ".localhost")
_KEPT: Final = 1_024
"""Hosts remembered at the most."""


def destination_of(attributes: Mapping[str, Any]) -> str:
    """`host:port` (or `host`) of an outgoing call, lower case; "" where the attributes do not say.

    Args:
        attributes: Of the CLIENT or PRODUCER span of the call, in the old or the new convention.
    """
    for key in _URLS:
        value = attributes.get(key)
        if isinstance(value, str):
            try:
                split = urlsplit(value)
                host, port = split.hostname, split.port
            except ValueError:
                return ""
            if host:
                return joined(host, port or {"http": 80, "https": 443}.get(split.scheme))
    for key, port_key in _HOSTS:
        value = attributes.get(key)
        if isinstance(value, str) and value:
            port = attributes.get(port_key)
            if key == "http.host":
                return destination_of({"url.full": f"//{value}"})
            return joined(value, port if isinstance(port, (int, str)) else None)
    return ""


def joined(host: str, port: int | str | None) -> str:
    """`host:port`, or `host` where there is no port; lower case, brackets around IPv6.

    Args:
        host: Name or address.
        port: Its port.
    """
    host = host.strip().strip("[]").rstrip(".").lower()
    if ":" in host and host.count(":") > 1:
        host = f"[{host}]"
    return f"{host}:{port}" if port else host


def destinations_of(targets: Iterable[object]) -> tuple[str, ...]:
    """`host:port` of each of the addresses that a gRPC channel or a list of brokers was made with.

    Args:
        targets: Such as `orders:50051`, `dns:///orders:50051`, `ipv4:10.0.0.1:80,10.0.0.2:80`, `unix:/run/orders`.

    Returns:
        Nothing where one of them is none, so that nobody takes the others for all.
    """
    found: list[str] = []
    for target in targets:
        for one in target.split(",") if isinstance(target, str) else ("",):
            scheme, _, rest = one.strip().partition(":")
            if scheme in ("unix", "unix-abstract"):
                found.append("localhost")
                continue
            address = rest.rsplit("/", 1)[-1] if rest.startswith("//") or scheme in _SCHEMES else one.strip()
            destination = destination_of({"url.full": f"//{address}"})
            if not destination:
                return ()
            found.append(destination)
    return tuple(found)


def service_of(attributes: Mapping[str, Any]) -> str:
    """`rpc:<service>` of a remote call whose span names no host, as gRPC's do; "" for none."""
    service = attributes.get("rpc.service")
    return f"rpc:{service}" if isinstance(service, str) and service else ""


def is_message(attributes: Mapping[str, Any]) -> bool:
    """Whether the span hands a message to a broker."""
    return any(key.startswith(_MESSAGING) for key in attributes) or "celery.action" in attributes


def is_internal(host: str) -> bool:
    """Whether `host` is evidently of our own network.

    Loopback and private addresses, names of one label (Docker, Kubernetes), and what ends with `.svc`, `.internal`,
    `.local` or `.localhost`. Link-local addresses are not: the cloud's metadata service lives there.

    Args:
        host: Name or address, without a port.
    """
    import ipaddress

    host = host.strip("[]").partition("%")[0].rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # All that a resolver may take for a number ("2130706433", "0x7f.1") is an address in disguise.
        if not host or not re.fullmatch(r"[a-z0-9_.-]+", host) or not re.match(r"(?!0x)[a-z_]", host.split(".")[-1]):
            return False
        return "." not in host or host.endswith(_SUFFIXES)
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return (address.is_private or address.is_loopback) and not address.is_link_local


class OwnHosts:
    """Decides which hosts are ours; remembers what it decided. Safe in any thread.

    Args:
        patterns: Host names with `*` and `?`, with a port or without; `rpc:<service>` for gRPC, whose spans name no
            host; `internal` stands for what is evidently internal; `!` before a pattern takes out what it matches.
    """

    def __init__(self, patterns: tuple[str, ...]) -> None:
        listed = [one for one in patterns if not one.startswith("!")]
        self.everywhere = ANYWHERE in listed
        self._internal = INTERNAL in listed
        self._listed = _matcher([one for one in listed if one != INTERNAL])
        self._barred = _matcher([one[1:] for one in patterns if one.startswith("!")])
        self._known: dict[str, bool] = {}

    def __contains__(self, destination: object) -> bool:
        """Whether `destination` (`host:port` or `host`) is one of them."""
        if not isinstance(destination, str) or not destination:
            return False
        known = self._known.get(destination)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[destination] = self._decide(destination)
        return known

    def lists(self, name: str) -> bool:
        """Whether a pattern names what has no host, such as `rpc:shop.Orders`, and none takes it out."""
        return self._listed is not None and self._listed.fullmatch(name.lower()) is not None and not self.bars(name)

    def bars(self, name: str) -> bool:
        """Whether a pattern with `!` takes out what has no host."""
        return self._barred is not None and self._barred.fullmatch(name.lower()) is not None

    def _decide(self, destination: str) -> bool:
        host = _host(destination)
        if self._barred and (self._barred.fullmatch(host) or self._barred.fullmatch(destination)):
            return False
        if self._listed and (self._listed.fullmatch(host) or self._listed.fullmatch(destination)):
            return True
        return self._internal and is_internal(host)


def _matcher(patterns: list[str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    parts = (
        "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in one.lower()) for one in patterns
    )
    return re.compile("|".join(parts), re.DOTALL)


def _host(destination: str) -> str:
    if destination.startswith("["):
        return destination[1:].partition("]")[0]
    return destination.partition(":")[0]


__all__ = [
    "ANYWHERE",
    "OwnHosts",
    "destination_of",
    "destinations_of",
    "is_internal",
    "is_message",
    "joined",
    "service_of",
]
