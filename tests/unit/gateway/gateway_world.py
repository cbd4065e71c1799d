"""What the tests of the gateway's composition share: settings from a text, requests, an HTTP and a gRPC client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from otel_posthog.gateway.configuration.bridge_file import load_gateway_settings
from otel_posthog.gateway.configuration.settings import GatewaySettings

KEYS = {
    "KEY": "phc_world_key_one",
    "OTHER_KEY": "phc_world_key_two",
    "TOKEN": "world-token-one",
    "TOKEN_TWO": "world-token-two",
}
NOW_NS = 1_790_000_000_000_000_000


def settings_of(folder: Path, document: Mapping[str, Any], environ: Mapping[str, str] = KEYS) -> GatewaySettings:
    """Settings of a file, on free ports of loopback, with its spool in `folder`."""
    free = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "admin": "127.0.0.1:0"}
    whole = {"listen": free, "spool": {"dir": str(folder / "spool")}, **document}
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return load_gateway_settings(str(path), environ)


def project(host: str, key: str = "KEY", **more: Any) -> dict[str, Any]:
    """A project that delivers quickly."""
    return {
        "host": host,
        "key": {"env": key},
        "delivery": {"flush_interval": 0.02, "retry_initial": 0.05, "retry_max": 0.2, "senders": 2},
        **more,
    }


def otlp(
    event: str = "",
    *,
    name: str = "work",
    span_id: str = "b7ad6b7169203331",
    resource: Mapping[str, Any] | None = None,
    **attributes: str,
) -> dict[str, Any]:
    """A request with one span, tagged where `event` is given."""
    tagged = {"posthog.event": event, "posthog.distinct_id": "ada"} if event else {}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _pairs({"service.name": "shop", **(resource or {})})},
                "scopeSpans": [
                    {
                        "scope": {"name": "test"},
                        "spans": [
                            {
                                "traceId": "0af7651916cd43dd8448eb211c80319c",
                                "spanId": span_id,
                                "name": name,
                                "kind": 2,
                                "startTimeUnixNano": str(NOW_NS - 1_000_000),
                                "endTimeUnixNano": str(NOW_NS),
                                "attributes": _pairs({**tagged, **attributes}),
                            }
                        ],
                    }
                ],
            }
        ]
    }


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    kinds = {bool: "boolValue", int: "intValue"}
    return [{"key": key, "value": {kinds.get(type(value), "stringValue"): value}} for key, value in attributes.items()]


def post(url: str, document: Any, *, token: str = "", kind: str = "traces") -> tuple[int, dict[str, Any]]:
    """Sends OTLP/JSON; the status and the answer."""
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(f"{url}/v1/{kind}", json.dumps(document).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def send_grpc(port: int, document: Any, *, token: str = "") -> Any:
    """Sends the same over gRPC; the answer."""
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

    request = as_protobuf(document)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = TraceServiceStub(channel)
        metadata = [("authorization", f"Bearer {token}")] if token else []
        return stub.Export(request, timeout=30, metadata=metadata)


def as_protobuf(document: Any) -> Any:
    """The message that says the same as a document in OTLP/JSON."""
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return json_format.ParseDict(_for_protobuf(document), ExportTraceServiceRequest())


def _for_protobuf(document: Any) -> Any:
    """The JSON form of protobuf, which has ids in base64."""
    import base64

    if isinstance(document, dict):
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode()
            if key in ("traceId", "spanId")
            else _for_protobuf(value)
            for key, value in document.items()
        }
    return [_for_protobuf(each) for each in document] if isinstance(document, list) else document


def admin(url: str, path: str) -> tuple[int, str]:
    """A page of the admin listener."""
    try:
        with urllib.request.urlopen(url + path, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
