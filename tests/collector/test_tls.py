"""The shipped TLS settings: encrypted on both protocols, with client certificates where a CA for them is named."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

import grpc
import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from tests.fixtures.collector import CONFIGURATIONS, Collector
from tests.fixtures.collector_senders import SENDER_TOKEN, post, request_of

HEADERS = {"content-type": "application/x-protobuf", "authorization": f"Bearer {SENDER_TOKEN}"}


def over_https(collector: Collector, authority: trustme.CA, client: Path | None) -> int:
    """The status of one request over TLS; 0 where the handshake fails."""
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    if client is not None:
        context.load_cert_chain(client)
    connection = http.client.HTTPSConnection("localhost", collector.ports.http, timeout=60, context=context)
    try:
        connection.request("POST", "/v1/traces", request_of(["paid"]), HEADERS)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def over_grpc(collector: Collector, authority: trustme.CA, client: trustme.LeafCert | None) -> grpc.StatusCode:
    """The status of one call over TLS."""
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(),
        client.private_key_pem.bytes() if client is not None else None,
        client.cert_chain_pems[0].bytes() if client is not None else None,
    )
    with grpc.secure_channel(f"localhost:{collector.ports.grpc}", credentials) as channel:
        try:
            TraceServiceStub(channel).Export(
                ExportTraceServiceRequest.FromString(request_of(["paid"])),
                metadata=(("authorization", f"Bearer {SENDER_TOKEN}"),),
                timeout=60,
            )
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.mark.row(39)
@pytest.mark.parametrize("name", ["otelcol-gateway.yaml", "otelcol-agent.yaml"])
def test_tls_and_mtls(name: str, collector_binary: Path, tmp_path: Path) -> None:
    """Plain text is refused; with a CA for clients, so is everybody without a certificate of it."""
    authority, strangers = trustme.CA(), trustme.CA()
    server = authority.issue_cert("localhost")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    client, stranger = authority.issue_cert("agent"), strangers.issue_cert("agent")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    stranger.private_key_and_cert_chain_pem.write_to_path(tmp_path / "stranger.pem")
    settings = {
        "COLLECTOR_TOKEN": SENDER_TOKEN,
        "GATEWAY_TOKEN": "out",
        "QUEUE_DIR": str(tmp_path / "queue"),
        "TLS_CERT_FILE": str(tmp_path / "cert.pem"),
        "TLS_KEY_FILE": str(tmp_path / "key.pem"),
    }
    files = [CONFIGURATIONS / name, CONFIGURATIONS / "tls.yaml"]
    with Collector(files, settings, binary=collector_binary, log=tmp_path / "log") as collector:
        assert over_https(collector, authority, None) == 200
        assert over_grpc(collector, authority, None) is grpc.StatusCode.OK
        assert over_https(collector, strangers, None) == 0
        assert post(collector.ports, request_of(["paid"])) in (0, 400)
        collector.kill()
    settings["TLS_CLIENT_CA_FILE"] = str(tmp_path / "clients.pem")
    with Collector(files, settings, binary=collector_binary, log=tmp_path / "log") as collector:
        assert over_https(collector, authority, tmp_path / "client.pem") == 200
        assert over_grpc(collector, authority, client) is grpc.StatusCode.OK
        assert over_https(collector, authority, None) == 0
        assert over_https(collector, authority, tmp_path / "stranger.pem") == 0
        assert over_grpc(collector, authority, stranger) is grpc.StatusCode.UNAVAILABLE
        collector.kill()


def test_without_a_certificate_it_is_refused(collector_binary: Path, tmp_path: Path) -> None:
    """Who asks for TLS and forgets the certificate does not get plain text instead."""
    settings = {"COLLECTOR_TOKEN": "in", "GATEWAY_TOKEN": "out", "QUEUE_DIR": str(tmp_path / "queue")}
    files = [CONFIGURATIONS / "otelcol-gateway.yaml", CONFIGURATIONS / "tls.yaml"]
    collector = Collector(files, settings, binary=collector_binary, log=tmp_path / "log")
    with pytest.raises(AssertionError, match="ended with 1"):
        collector.start()
    assert "TLS configuration must" in collector.text or "cert" in collector.text
