"""Which hosts events may be sent to: from the configuration alone, and not every one that a configuration names.

A gateway sits where it reaches more than its callers do. A host that came with telemetry, or one that an operator was
talked into, would turn it into a way to the cloud's metadata or to somebody else's PostHog. So PostHog's own hosts and
this machine are let through, another host by a word of its own, and what no PostHog ever runs on by yet another.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from otel_posthog.config.endpoint import Endpoint, parse_endpoint
from otel_posthog.errors import ConfigError

_METADATA_NAMES: Final = frozenset({
    "metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal",
    "metadata.azure.internal", "metadata.tencentyun.com",
})  # fmt: skip
_METADATA_ADDRESSES: Final = frozenset({"100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"})
"""Those outside the link-local networks: Alibaba, Oracle, Azure, AWS over IPv6."""


def capture_host(
    text: str, key: str, *, self_hosted: bool = False, allow_http: bool = False, allow_link_local: bool = False
) -> str:
    """The capture host that `text` names, if events may be sent there.

    Args:
        text: As configured: a region's host, with or without `/i`.
        key: Its key, for messages.
        self_hosted: It may be another host than PostHog's.
        allow_http: It may be spoken to in plain text.
        allow_link_local: It may be an address that clouds keep their metadata at, or a link-local one.

    Returns:
        Scheme, host, port and path, without a trailing slash or `/i`.

    Raises:
        ConfigError: It is no address, or not one that events may be sent to.
    """
    endpoint = parse_endpoint(text, key)
    if endpoint.credentials:
        raise ConfigError(
            "it holds a user or a password, and hosts are shown in logs", key=key, hint="Remove what stands before `@`"
        )
    if endpoint.query or "#" in text:
        raise ConfigError("it has a query or a fragment", key=key, hint=f"Write {endpoint.origin}")
    host = endpoint.host.strip("[]")
    address = _address(host)
    if endpoint.on_posthog_host:
        if endpoint.scheme != "https":
            raise ConfigError("PostHog is spoken to over https alone", key=key, hint=f"Write https://{endpoint.host}")
        return endpoint.capture_host
    if host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback):
        return endpoint.capture_host
    _check_other(endpoint, host, address, key, self_hosted, allow_http, allow_link_local)
    return endpoint.capture_host


def _check_other(
    endpoint: Endpoint,
    host: str,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None,
    key: str,
    self_hosted: bool,
    allow_http: bool,
    allow_link_local: bool,
) -> None:
    unspecified = address is not None and (address.is_unspecified or address.is_multicast)
    if unspecified or host.endswith(".") or host == "":
        raise ConfigError(f"{host!r} is no address of a server", key=key, hint="Name the host that PostHog runs on")
    if not allow_link_local and (host in _METADATA_NAMES or (address is not None and _is_metadata(address))):
        raise ConfigError(
            f"{host!r} is a link-local address, or one where clouds keep their metadata",
            key=key,
            hint="Name PostHog's host; if it does run there, set `allow_link_local: true` beside it",
        )
    if not self_hosted:
        raise ConfigError(
            f"{host!r} is not a host of PostHog's cloud",
            key=key,
            hint="Write https://us.i.posthog.com or https://eu.i.posthog.com; "
            "for a PostHog of your own set `self_hosted: true` beside it",
        )
    if endpoint.scheme != "https" and not allow_http:
        raise ConfigError(
            "plain http would show key and events to everybody on the way",
            key=key,
            hint=f"Write https://{endpoint.host}, or set `allow_http: true` beside it for a network that is yours",
        )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that the system would take `host` for; it reads `2852039166` and `0xA9FEA9FE` as addresses too."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _is_metadata(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_link_local or str(address) in _METADATA_ADDRESSES
