"""Sockets that listen."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.receivers.settings import Listen

_BACKLOG: Final = 1024


def listeners(address: Listen, *, reuse_port: bool) -> list[socket.socket]:
    """Listeners at every address that the host has: `localhost` is two, and clients try either.

    Args:
        address: Where; port 0 is one free port for all of them.
        reuse_port: Whether other processes may listen there too.

    Raises:
        ConfigError: Nobody can listen there, or somebody else does.
    """
    bound: list[socket.socket] = []
    port, missing = address.port, None
    try:
        infos = socket.getaddrinfo(address.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = {(info[0], info[4]): None for info in infos}
        for family, name in addresses:
            try:
                bound.append(_bound(family, (name[0], port, *name[2:]), alone=len(addresses) == 1, reuse=reuse_port))
                port = bound[-1].getsockname()[1]
            except OSError as error:  # noqa: PERF203 - two addresses at most
                # A machine whose hosts file has IPv6 and whose kernel has not.
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                missing = error
        if not bound:
            raise missing or OSError("it has no address")
    except (OSError, OverflowError, UnicodeError) as error:
        for listener in bound:
            listener.close()
        raise _unusable(address, error) from None
    return bound


def _bound(family: int, name: tuple[Any, ...], *, alone: bool, reuse: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # `::` alone is everything, as it is for gRPC; beside an IPv4 listener it must leave that its own.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not alone))
        listener.bind(name)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _unusable(address: Listen, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConfigError(
        f"OTLP/HTTP cannot listen here: {reason}",
        key="listen.http",
        source=str(address),
        hint="Choose another address, or port 0 for a free one",
    )
