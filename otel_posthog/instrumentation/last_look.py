"""The last look at a request before it is on the wire, where every hop of it passes: the one after a redirect, too.

Clients follow redirects by themselves, and hand on the headers that they were given for the host before. Nobody is
asked about that hop: it is inside of the first call's span (requests, urllib, aiohttp), or the propagator leaves the
header of the hop before where it has none of its own (httpx). So the hosts are looked at once more, on the floor below
all of them: `http.client` (requests, urllib3, urllib, boto), httpcore (httpx) and aiohttp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import wrapt

from otel_posthog.instrumentation.patches import Patches
from otel_posthog.semconv import otel

Look = Callable[[str, str, str], str]
"""(header in lower case, value, `host:port`) -> the value to send, "" for none."""
Failed = Callable[[Exception], None]
Change = Callable[[Any, Patches, Look, Failed], None]

_MAX_NAMES: Final = 256
"""Names of other headers remembered at the most: some apps make them of data."""
_URL: Final = "_otel_posthog_url"
"""On a connection: the absolute address that a proxy was asked for."""


def watch(patches: Patches, look: Look, failed: Failed) -> None:
    """Has requests looked at, in the modules that are there and in those that are imported later.

    Args:
        patches: Keeps what is changed.
        look: Asked about each header with baggage.
        failed: Counts what is swallowed.
    """
    for name, change in _MODULES.items():
        when_imported(name, patches, lambda module, change=change: change(module, patches, look, failed), failed)


def when_imported(name: str, patches: Patches, change: Callable[[Any], None], failed: Failed) -> None:
    """Changes a module now or when it is imported, as long as `patches` are not taken back.

    Args:
        name: Of the module.
        patches: Keeps what is changed.
        change: Given the module.
        failed: Counts what is swallowed.
    """

    def imported(module: Any) -> None:
        if patches.on:
            try:
                change(module)
            except Exception as error:  # noqa: BLE001 - the edge: we are inside the app's own import
                failed(error)

    wrapt.register_post_import_hook(imported, name)


def carries_baggage(header: str) -> bool:
    """Whether a header, lower case, has members of a baggage."""
    return header == otel.BAGGAGE or header.startswith(otel.BAGGAGE_MEMBERS)


# --- http.client -----------------------------------------------------------------------------------------------------


def _http_client(module: Any, patches: Patches, look: Look, failed: Failed) -> None:
    connection = module.HTTPConnection
    putrequest, putheader = connection.putrequest, connection.putheader

    def requesting(enabled: Callable[[], bool]) -> Any:
        def wrapped(self: Any, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
            if enabled():
                setattr(self, _URL, url if isinstance(url, str) and not url.startswith("/") else "")
            return putrequest(self, method, url, *args, **kwargs)

        return wrapped

    def heading(enabled: Callable[[], bool]) -> Any:
        others: set[str] = set()

        def wrapped(self: Any, header: Any, *values: Any) -> Any:
            # Each header of each request passes here, and nearly all are the same few.
            if type(header) is str and header in others:
                return putheader(self, header, *values)
            name = (header if isinstance(header, str) else _text(header)).lower()
            if not carries_baggage(name):
                if type(header) is str and len(others) < _MAX_NAMES:
                    others.add(header)
                return putheader(self, header, *values)
            if not enabled():
                return putheader(self, header, *values)
            target = _or_nowhere(_target_of, self, failed)
            kept = [one for value in values if (one := look(name, _text(value), target))]
            return putheader(self, header, *kept) if kept else None

        return wrapped

    patches.put(connection, "putrequest", requesting)
    patches.put(connection, "putheader", heading)


def _target_of(connection: Any) -> str:
    from otel_posthog.context.destination import destination_of, joined

    asked = getattr(connection, _URL, "")
    if asked:
        return destination_of({"url.full": asked})
    tunnel = getattr(connection, "_tunnel_host", None)
    return joined(tunnel, connection._tunnel_port) if tunnel else joined(connection.host, connection.port)


# --- httpcore --------------------------------------------------------------------------------------------------------


def _httpcore(module: Any, patches: Patches, look: Look, failed: Failed) -> None:
    def handling(original: Any) -> Callable[[Callable[[], bool]], Any]:
        def made(enabled: Callable[[], bool]) -> Any:
            def wrapped(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
                if enabled():
                    try:
                        _clean_core(request, look, failed)
                    except Exception as error:  # noqa: BLE001 - an edge: a request of a shape that nobody knows
                        failed(error)
                return original(self, request, *args, **kwargs)

            return wrapped

        return made

    for owner, name in (("ConnectionPool", "handle_request"), ("AsyncConnectionPool", "handle_async_request")):
        pool = getattr(module, owner)
        patches.put(pool, name, handling(getattr(pool, name)))


def _clean_core(request: Any, look: Look, failed: Failed) -> None:
    headers: list[tuple[bytes, bytes]] = request.headers
    names = [_text(name).lower() for name, _ in headers]
    if not any(map(carries_baggage, names)):
        return
    target = _or_nowhere(_core_target, request, failed)
    kept: list[tuple[bytes, bytes]] = []
    for name, (header, value) in zip(names, headers, strict=True):
        if carries_baggage(name):
            value = look(name, _text(value), target).encode("latin-1")  # noqa: PLW2901 - it stands in for the other
            if not value:
                continue
        kept.append((header, value))
    request.headers = kept


def _core_target(request: Any) -> str:
    from otel_posthog.context.destination import joined

    url = request.url
    return joined(_text(url.host), url.port or {b"https": 443}.get(url.scheme, 80))


# --- aiohttp ---------------------------------------------------------------------------------------------------------


def _aiohttp(module: Any, patches: Patches, look: Look, failed: Failed) -> None:
    request = module.ClientRequest
    original = request.send

    def made(enabled: Callable[[], bool]) -> Any:
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if enabled():
                try:
                    _clean_aiohttp(self, look, failed)
                except Exception as error:  # noqa: BLE001 - an edge: a request of a shape that nobody knows
                    failed(error)
            return original(self, *args, **kwargs)

        return wrapped

    patches.put(request, "send", made)


def _clean_aiohttp(request: Any, look: Look, failed: Failed) -> None:
    headers = request.headers
    found = {name for name in headers if carries_baggage(name.lower())}
    if not found:
        return
    target = _or_nowhere(_aiohttp_target, request, failed)
    for header in found:
        # It may be there in several spellings, which are one for a multidict.
        for value in headers.popall(header, ()):
            if kept := look(header.lower(), value, target):
                headers.add(header, kept)


def _aiohttp_target(request: Any) -> str:
    from otel_posthog.context.destination import joined

    return joined(request.url.host or "", request.url.port)


def _or_nowhere(target_of: Callable[[Any], str], request: Any, failed: Failed) -> str:
    """Where a request goes; where nobody could look, it is no place of ours."""
    try:
        return target_of(request)
    except Exception as error:  # noqa: BLE001 - an edge: the app's request goes out
        failed(error)
        return ""


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, (bytes, bytearray)) else str(value)


_MODULES: Final[Mapping[str, Change]] = {
    "http.client": _http_client,
    "httpcore": _httpcore,
    "aiohttp.client_reqrep": _aiohttp,
}

__all__ = ["Look", "carries_baggage", "watch", "when_imported"]
