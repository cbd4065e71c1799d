"""OTLP endpoints as people write them: which are PostHog's, and which capture or logs address follows from each."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from otel_posthog.errors import ConfigError
from otel_posthog.model.frozen import frozen

SIGNAL_SUFFIX = re.compile(r"/v1/(?:traces|logs|metrics)$")

# PostHog's web application answers on these, its ingestion on those; the SDKs make the same exchange.
APP_HOSTS = {
    "us.posthog.com": "us.i.posthog.com",
    "eu.posthog.com": "eu.i.posthog.com",
    "app.posthog.com": "us.i.posthog.com",
}
INGESTION_HOSTS = frozenset({"us.i.posthog.com", "eu.i.posthog.com"})
_DEFAULT_PORT = {"http": 80, "https": 443}


@frozen
class Endpoint:
    """One configured OTLP endpoint.

    Args:
        source: The variable or argument that it came from.
        signal: `traces`, `logs` or `metrics` for a signal's own endpoint, "" for the base of all three.
        scheme: `http` or `https`.
        host: Lower-case host name or address, IPv6 in brackets.
        port: Port, 0 where none was written.
        path: Path without trailing slashes.
        query: Query, without the question mark.
        credentials: User and password were written into it; they are not kept.
        slash: It was written with a trailing slash.
    """

    source: str
    signal: str
    scheme: str
    host: str
    port: int = 0
    path: str = ""
    query: str = ""
    credentials: bool = False
    slash: bool = False

    @property
    def on_posthog_host(self) -> bool:
        """Whether the host is `posthog.com` or below it."""
        return self.host == "posthog.com" or self.host.endswith(".posthog.com")

    @property
    def has_posthog_path(self) -> bool:
        """Whether the path is that of PostHog's OTLP base, `/i`, or of one of its signals."""
        return SIGNAL_SUFFIX.sub("", self.path).endswith("/i")

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        port = f":{self.port}" if self.port and self.port != _DEFAULT_PORT[self.scheme] else ""
        return f"{self.scheme}://{self.host}{port}"

    @property
    def shown(self) -> str:
        """For people: without query, which may hold a key."""
        return f"{self.origin}{self.path}" + ("?…" if self.query else "")

    @property
    def capture_host(self) -> str:
        """PostHog's capture host behind this endpoint, without trailing slash or `/i`."""
        if self.on_posthog_host:
            return f"https://{APP_HOSTS.get(self.host, self.host)}{self._odd_port}"
        base = SIGNAL_SUFFIX.sub("", self.path)
        return self.origin + base.removesuffix("/i")

    @property
    def posthog_otlp_base(self) -> str:
        """PostHog's own OTLP base behind this endpoint: the capture host and `/i`."""
        return f"{self.capture_host}/i"

    @property
    def _odd_port(self) -> str:
        # Hosted PostHog has none of OTLP's usual ports: there they are a habit, not an address.
        return f":{self.port}" if self.port not in (0, 80, 443, 4317, 4318) else ""


def parse_endpoint(text: str, source: str, signal: str = "", *, grpc: bool = False, insecure: bool = False) -> Endpoint:
    """Reads an endpoint.

    Args:
        text: Not blank.
        source: The variable or argument, for messages.
        signal: Whose own endpoint it is; "" for the base.
        grpc: Its exporter speaks gRPC, where an endpoint may have no scheme.
        insecure: `OTEL_EXPORTER_OTLP_INSECURE`, which then decides between plain text and TLS.

    Raises:
        ConfigError: It is no HTTP address.
    """
    written = text.strip()
    if "://" not in written:
        bare = re.fullmatch(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^/:@\s]+)(?::(?P<port>\d+))?(?P<path>/\S*)?", written)
        if not bare:
            raise ConfigError("this is no address", key=source, hint="Write it as http://host:4318")
        if not (grpc or bare["port"] == "4317"):
            scheme = "https" if bare["host"].lower().rstrip(".").endswith("posthog.com") else "http"
            raise ConfigError(
                "the scheme is missing, and OTLP over HTTP needs one", key=source, hint=f"Write {scheme}://{written}"
            )
        written = f"{'http' if insecure else 'https'}://{written}"
    try:
        parts = urlsplit(written)
        port = parts.port or 0
    except ValueError:
        raise ConfigError("this is no address", key=source, hint="Write it as http://host:4318") from None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORT:
        raise ConfigError(
            f"the scheme {scheme[:12]!r} is not known", key=source, hint="Write http:// or https:// before the host"
        )
    host = _host(parts)
    if not host or any(char.isspace() or char < " " or char == "\x7f" for char in written):
        raise ConfigError("it names no host", key=source, hint="Write it as http://host:4318")
    return Endpoint(
        source=source,
        signal=signal,
        scheme=scheme,
        host=host,
        port=port,
        path=parts.path.rstrip("/"),
        query=parts.query,
        credentials="@" in parts.netloc,
        slash=parts.path.endswith("/"),
    )


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").rstrip(".")
    return f"[{host}]" if ":" in host else host


def collector_logs_url(endpoint: Endpoint, *, grpc: bool) -> tuple[str, str]:
    """The OTLP/HTTP logs address of the Collector behind an endpoint, and what its owner should know about it.

    Args:
        endpoint: A Collector's endpoint.
        grpc: Its standard exporter speaks gRPC.

    Raises:
        ConfigError: No logs address follows from it.
    """
    if endpoint.port == 4317 or (grpc and endpoint.port != 4318):
        # Our lane speaks HTTP only; an OTLP receiver has it beside gRPC, one port further.
        url = f"{endpoint.scheme}://{endpoint.host}:4318/v1/logs"
        return url, (
            f"product data goes to {url}, since it travels over OTLP/HTTP and {endpoint.source} names a gRPC port; "
            f"open the HTTP port of the Collector's OTLP receiver, or set OTEL_EXPORTER_OTLP_LOGS_ENDPOINT to its "
            "address together with OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf"
        )
    query = f"?{endpoint.query}" if endpoint.query else ""
    if endpoint.signal == "logs":
        return f"{endpoint.origin}{endpoint.path}{'/' if endpoint.slash else ''}{query}", ""
    suffix = SIGNAL_SUFFIX.search(endpoint.path)
    if not endpoint.signal:
        warning = ""
        if suffix:
            warning = (
                f"{endpoint.source} ends in {suffix.group()}, but is the base to which exporters add that themselves; "
                f"write {endpoint.origin}{endpoint.path[: suffix.start()]}"
            )
        return f"{endpoint.origin}{SIGNAL_SUFFIX.sub('', endpoint.path)}/v1/logs{query}", warning
    if not suffix:
        raise ConfigError(
            f"product data needs the Collector's logs address, and none follows from {endpoint.shown}",
            key=endpoint.source,
            hint="Set OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_LOGS_ENDPOINT as well",
        )
    return f"{endpoint.origin}{endpoint.path[: suffix.start()]}/v1/logs{query}", ""
