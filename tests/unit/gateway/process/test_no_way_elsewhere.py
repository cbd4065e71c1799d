"""Where a gateway connects to: to what its operator configured, whatever its callers say."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.bridge_file import load_gateway_settings
from otel_posthog.gateway.process.service import GatewayService
from tests.unit.gateway.gateway_world import KEYS, otlp, project, settings_of

METADATA = "http://169.254.169.254"


@pytest.fixture(name="elsewhere")
def other_socket() -> Iterator[socket.socket]:
    """A server that nobody configured; what connects waits in its backlog."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def connected(listening: socket.socket) -> bool:
    """Whether anybody has connected."""
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def hostile(url: str) -> dict[str, str]:
    """Every name under which a host, key, tenant or project might be believed."""
    words = ("host", "api_key", "token", "project", "project_id", "tenant", "endpoint", "url")
    return {
        **{f"posthog.{word}": "other" if word in ("project", "tenant") else url for word in words},
        **{word: "other" if word in ("project", "tenant") else url for word in words if word not in ("host", "url")},
        "posthog.api_key": "phc_mallory",
        "posthog.properties.host": url,
        "posthog.properties.token": "phc_mallory",
        "posthog.properties.api_key": "phc_mallory",
        "baggage.posthog.host": url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "POSTHOG_HOST": url,
        "server.address": url,
        "http.proxy": url,
    }


def headers(url: str) -> dict[str, str]:
    """The same as request headers."""
    place = url.removeprefix("http://")
    return {
        "Host": place,
        "X-Forwarded-Host": place,
        "X-Forwarded-For": "169.254.169.254",
        "Forwarded": f"host={place}",
        "X-PostHog-Host": url,
        "X-PostHog-Api-Key": "phc_mallory",
        "X-PostHog-Project": "other",
        "X-Scope-OrgID": "other",
        "X-Tenant": "other",
        "Project": "other",
        "Proxy": url,
        "Baggage": f"posthog.host={url},posthog.project=other,posthog.api_key=phc_mallory,tenant=other",
        "Location": url,
    }


@pytest.mark.row(40)
@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_caller_chooses_neither_host_nor_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: socket.socket, transport: str
) -> None:
    """Attributes, resource, baggage and headers name others: only what its credential belongs to is connected to."""
    for package in ("grpc", "httptools", "prometheus_client", "starlette"):
        pytest.importorskip(package)  # extras, which the environment of the floor does without
    url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
    looked_up: list[Any] = []
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, at: (looked_up.append(at), connect(self, at))[1])
    with Emulator() as mine, Emulator() as others:
        document = {
            "tokens": {"one": {"env": "TOKEN"}, "two": {"env": "TOKEN_TWO"}},
            "projects": {
                "mine": project(mine.url, match={"tokens": ["one"]}),
                "other": project(others.url, "OTHER_KEY", match={"tokens": ["two"]}),
            },
        }
        service = GatewayService(settings_of(tmp_path, document))
        service.start()
        try:
            body = otlp("sold", resource=hostile(url), **hostile(url))
            if transport == "http":
                send_http(service.receivers.http_port or 0, body, headers(url))
            else:
                send_grpc(service.receivers.grpc_port or 0, body, headers(url))
            mine.wait_for(lambda emulator: len(emulator.events()) == 1)
            assert service.stop(60)
        finally:
            service.stop(1.0)
        assert [(event["event"], event["token"]) for event in mine.events()] == [("sold", KEYS["KEY"])]
        assert (others.events(), connected(elsewhere)) == ([], False)
        ports = {int(others.url.rpartition(":")[2]), elsewhere.getsockname()[1]}
        assert [at for at in looked_up if isinstance(at, tuple) and (at[1] in ports or at[0] != "127.0.0.1")] == []


def send_http(port: int, document: Any, more: dict[str, str]) -> None:
    """One request with these headers."""
    named = {"content-type": "application/json", "authorization": f"Bearer {KEYS['TOKEN']}", **more}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/traces", json.dumps(document).encode(), named)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def send_grpc(port: int, document: Any, more: dict[str, str]) -> None:
    """The same with these as metadata."""
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

    from tests.unit.gateway.gateway_world import as_protobuf

    metadata = [("authorization", f"Bearer {KEYS['TOKEN']}")]
    metadata += [(name.lower(), value) for name, value in more.items() if name != "Host"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        TraceServiceStub(channel).Export(as_protobuf(document), timeout=60, metadata=metadata)


@pytest.mark.row(40)
@pytest.mark.parametrize(
    "host",
    [
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "gopher://127.0.0.1:70",
        "https://eu.i.posthog.com@169.254.169.254",
        METADATA,
        f"{METADATA}/latest/meta-data",
        "http://[::ffff:169.254.169.254]",
        "http://2852039166",
        "https://metadata.google.internal",
    ],
)
@pytest.mark.parametrize("way", ["file", "file, self-hosted", "environment", "environment, direct"])
def test_no_gateway_starts_with_such_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, way: str
) -> None:
    """In the file and in the environment, with the word for a PostHog of one's own too; no connection is made."""
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a connection"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a look-up"))
    with pytest.raises(ConfigError):
        if way.startswith("file"):
            words = {"self_hosted": True, "allow_http": True} if "self" in way else {}
            settings_of(tmp_path, {"projects": {"shop": project(host, **words)}})
        else:
            environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": host, "OTEL_EXPORTER_OTLP_TOKEN": "phc_some_token_of_mine"}
            direct = {"OTEL_POSTHOG_MODE": "direct"} if "direct" in way else {}
            load_gateway_settings("", {**environ, **direct})


@pytest.mark.row(40)
def test_a_user_in_an_address_is_refused_or_left_out(tmp_path: Path) -> None:
    """The file's own address is refused with it; that of the environment, which others read too, is used without."""
    host = "https://user:hunter2@eu.i.posthog.com"
    with pytest.raises(ConfigError) as raised:
        settings_of(tmp_path, {"projects": {"shop": project(host)}})
    assert "hunter2" not in str(raised.value)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": host, "OTEL_EXPORTER_OTLP_TOKEN": "phc_some_token_of_mine"}
    [made] = load_gateway_settings("", environ).projects
    assert made.lane.url == "https://eu.i.posthog.com"
    assert (made.lane.token.reveal(), made.lane.headers) == ("phc_some_token_of_mine", {})
