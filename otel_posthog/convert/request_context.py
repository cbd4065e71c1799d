"""The HTTP request behind an item -> `$current_url`, `$pathname`, `$browser` … (old and new HTTP conventions).

Only requests that came *in* count: a client span's URL is one that the service called, not one that a person saw.
Query strings, fragments and credentials never leave, unless `keep_query` is set (and then only the query).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert.text import clean_text, cut_bytes, first_of
from otel_posthog.convert.user_agent import MAX_USER_AGENT, UserAgents
from otel_posthog.model import Attributes, AttributeValue, JsonValue
from otel_posthog.semconv import otel

MAX_URL_BYTES: Final = 2_048

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_OUTGOING: Final = frozenset({"client", "producer"})
_METHOD_NEW, _METHOD_OLD = otel.HTTP_METHOD
_ROUTE: Final = otel.HTTP_ROUTE[0]


class Spelled(NamedTuple):
    """The spellings of each thing about a request, strongest first: all of them, or those that an item has.

    An item has about half of them, in one of the two conventions: those of its `Layout` are a look for each that is
    there, in place of two for each that there might be.
    """

    method: otel.Spellings = otel.HTTP_METHOD
    status: otel.Spellings = otel.HTTP_STATUS
    route: otel.Spellings = otel.HTTP_ROUTE
    full: otel.Spellings = otel.URL_FULL
    scheme: otel.Spellings = otel.URL_SCHEME
    path: otel.Spellings = otel.URL_PATH
    query: otel.Spellings = otel.URL_QUERY
    target: otel.Spellings = otel.HTTP_TARGET
    address: otel.Spellings = otel.SERVER_ADDRESS
    port: otel.Spellings = otel.SERVER_PORT
    agent: otel.Spellings = otel.USER_AGENT
    referrer: otel.Spellings = otel.REFERRER
    client: otel.Spellings = otel.CLIENT_ADDRESS


ALL: Final = Spelled()


def spelled_in(keys: Container[str]) -> Spelled:
    """Which of the spellings are among `keys`."""
    return Spelled(*(tuple(key for key in spellings if key in keys) for spellings in ALL))


def request_properties(
    attributes: Attributes, span_kind: str, config: ConvertConfig, user_agents: UserAgents, spelled: Spelled = ALL
) -> dict[str, JsonValue]:
    """The properties that describe the incoming request in `attributes`; empty where there is none.

    Args:
        attributes: Of the item, or of the span that owns it.
        span_kind: Of that span, "" for other items.
        config: What may be sent.
        user_agents: Reads the user agent.
        spelled: Those spellings that are in `attributes`, at least.
    """
    properties: dict[str, JsonValue] = {}
    if span_kind in _OUTGOING:
        return properties
    method = _first(attributes, spelled.method)
    if method:
        properties["$request_method"] = method[:40]
        status = _status(attributes, spelled)
        if status:
            properties["http_status_code"] = status
    route = _first(attributes, spelled.route)
    if route:
        properties["http_route"] = cut_bytes(route, MAX_URL_BYTES)
    _add_url(attributes, spelled, route, config.keep_query, properties)
    agent = _first(attributes, spelled.agent)
    if agent:
        agent = agent[:MAX_USER_AGENT]
        properties["$raw_user_agent"] = agent
        properties.update(user_agents.read(agent))
    referrer = _first(attributes, spelled.referrer) if spelled.referrer else ""
    if referrer:
        _add_referrer(referrer, properties)
    if config.client_ip:
        address = _client_address(attributes, spelled)
        if address:
            properties["$ip"] = address
    return properties


def _first(attributes: Attributes, spellings: otel.Spellings) -> str:
    for key in spellings:
        value = attributes.get(key)
        if value is not None:
            # Nearly all are plain text, and there are a dozen to an item.
            plain = type(value) is str and value.isascii() and "\x00" not in value
            text = value.strip() if plain else _text(value)
            if text:
                return text
    return ""


def _text(value: AttributeValue) -> str:
    # Captured headers are lists; a port may be an int.
    value = first_of(value)
    if isinstance(value, str):
        return clean_text(str.__str__(value)).strip()
    if isinstance(value, int) and not isinstance(value, bool) and -1 < value < 1 << 32:
        return str(int.__int__(value))
    return ""


def _status(attributes: Attributes, spelled: Spelled) -> int:
    text = _first(attributes, spelled.status)
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() else 0


def _add_url(
    attributes: Attributes, spelled: Spelled, route: str, keep_query: bool, properties: dict[str, JsonValue]
) -> None:
    full = _split(_first(attributes, spelled.full)) if spelled.full else None
    scheme = full.scheme if full else _first(attributes, spelled.scheme).lower()
    host = _host_of(full) if full else ""
    if not host and spelled.address:
        port = _first(attributes, spelled.port) if spelled.port else ""
        host = _host(_first(attributes, spelled.address), port, scheme)
    path, query = _path_and_query(attributes, spelled, full)
    if not path and not host and not route:
        return
    if not path and route:
        # Django under some servers has nothing but the route, and writes it without the leading slash.
        path = route if route.startswith("/") else f"/{route}"
    if host:
        properties["$host"] = cut_bytes(host, MAX_URL_BYTES)
    if path:
        properties["$pathname"] = cut_bytes(path, MAX_URL_BYTES)
        if host and scheme in _DEFAULT_PORTS:
            url = f"{scheme}://{host}{path}"
            if keep_query and query:
                url = f"{url}?{query}"
            properties["$current_url"] = cut_bytes(url, MAX_URL_BYTES)


def _path_and_query(attributes: Attributes, spelled: Spelled, full: SplitResult | None) -> tuple[str, str]:
    path = _first(attributes, spelled.path)
    query = _first(attributes, spelled.query) if spelled.query else ""
    if not path:
        # The old convention has path and query in one; behind a proxy the target may even be a whole URL.
        target = _first(attributes, spelled.target)
        if target.startswith("/"):
            path, _, rest = target.partition("?")
            query = query or rest
        else:
            split = _split(target) or full
            if split is not None:
                path, query = split.path or "/", query or split.query
    path = path.partition("?")[0].partition("#")[0]
    if path and not path.startswith("/"):
        path = f"/{path}"
    return path, query.lstrip("?").partition("#")[0]


def _split(url: str) -> SplitResult | None:
    if "://" not in url:
        return None
    try:
        split = urlsplit(url)
    except ValueError:
        return None
    return split if split.scheme in _DEFAULT_PORTS and split.netloc else None


def _host_of(url: SplitResult) -> str:
    # After the last "@": what stands before it is a user name and a password.
    return _without_default_port(url.netloc.rpartition("@")[2].lower(), url.scheme)


@lru_cache(maxsize=256)
def _host(address: str, port: str, scheme: str) -> str:
    address = address.rpartition("@")[2].lower()
    if not address or "/" in address or " " in address:
        return ""
    is_ipv6 = address.count(":") > 1
    if is_ipv6 and not address.startswith("["):
        address = f"[{address}]"
    if ":" not in address.rpartition("]")[2] and port.isascii() and port.isdigit() and port != "0":
        address = f"{address}:{port}"
    return _without_default_port(address, scheme)


def _without_default_port(host: str, scheme: str) -> str:
    default = _DEFAULT_PORTS.get(scheme)
    return host[: -len(default) - 1] if default and host.endswith(f":{default}") else host


def _add_referrer(referrer: str, properties: dict[str, JsonValue]) -> None:
    split = _split(referrer)
    if split is None:
        return
    host = _host_of(split)
    if host:
        properties["$referrer"] = cut_bytes(f"{split.scheme}://{host}{split.path}", MAX_URL_BYTES)
        properties["$referring_domain"] = cut_bytes(host, MAX_URL_BYTES)


def _client_address(attributes: Attributes, spelled: Spelled) -> str:
    import ipaddress  # only where `client_ip` was asked for

    text = _first(attributes, spelled.client)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def has_request(attributes: Mapping[str, AttributeValue]) -> bool:
    """Whether `attributes` describe an HTTP request at all: a quick look before the careful one."""
    return _METHOD_NEW in attributes or _METHOD_OLD in attributes or _ROUTE in attributes or _any(attributes)


_TELLING: Final = frozenset((*otel.URL_FULL, *otel.URL_PATH, *otel.HTTP_TARGET, *otel.USER_AGENT, *otel.REFERRER))


def _any(attributes: Mapping[str, AttributeValue]) -> bool:
    return not _TELLING.isdisjoint(attributes)
