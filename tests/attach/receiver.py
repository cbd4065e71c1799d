"""A loopback server that takes what a process sends — capture v0 and v1, OTLP/HTTP — and keeps it for assertions.

It is both ends at once: PostHog (`/batch/`, `/i/v1/analytics/events`, `/i/v1/traces|logs|metrics`) and a plain
Collector (`/v1/traces|logs|metrics`). A `script` decides for each request whether and how it goes wrong.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

BATCH = "/batch/"
EVENTS = "/i/v1/analytics/events"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Args:
        status: The answer's status; 0 = the connection is cut without an answer.
        stored: Whether the server stored the request all the same (a lost answer, a late failure).
        headers: Further headers of the answer.
        verdicts: uuid -> v1 verdict, for an answer that is 200.
        wait: Set by the test when the server may answer.
    """

    status: int = 503
    stored: bool = False
    headers: dict[str, str] = field(default_factory=dict[str, str])
    verdicts: dict[str, str] = field(default_factory=dict[str, str])
    wait: threading.Event | None = None


Script = Callable[[str, int], Fault | None]
"""(path, number of this request on that path, from 0) -> what goes wrong, `None` for nothing."""


@dataclass(frozen=True)
class Arrival:
    """One request that was stored."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Event:
    """One product event, however it came: capture v0, v1, or our lane of OTLP logs."""

    event: str
    distinct_id: str
    uuid: str
    timestamp: str
    properties: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """PostHog's de-duplication key: uuid, event, distinct_id, UTC day."""
        return self.uuid, self.event, self.distinct_id, self.timestamp[:10]


class Receiver:
    """The server; `with Receiver() as receiver`."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script
        self._changed = threading.Condition()
        self._arrivals: list[Arrival] = []
        self._requests: dict[str, int] = {}
        self.faults = 0
        self.unexpected: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Receiver:  # noqa: PYI034 - `Self` is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # --- what arrived ----------------------------------------------------------------------------------------

    def arrivals(self, *paths: str) -> list[Arrival]:
        """The stored requests, of `paths` where given."""
        with self._changed:
            return [arrival for arrival in self._arrivals if not paths or arrival.path in paths]

    def events(self) -> list[Event]:
        """Every product event that was stored, duplicates included."""
        found: list[Event] = []
        for arrival in self.arrivals():
            if arrival.path in {BATCH, EVENTS}:
                found += [_captured(item) for item in arrival.body["batch"]]
            elif arrival.path.endswith("/logs"):
                found += [_carried(record) for record in arrival.body if is_product(record)]
        return found

    def spans(self) -> list[dict[str, Any]]:
        """Every standard span that was stored."""
        return [span for arrival in self.arrivals() if arrival.path.endswith("/traces") for span in arrival.body]

    def logs(self) -> list[dict[str, Any]]:
        """Every standard log record that was stored."""
        return [
            record
            for arrival in self.arrivals()
            if arrival.path.endswith("/logs")
            for record in arrival.body
            if not is_product(record)
        ]

    def wait(self, enough: Callable[[Receiver], bool], timeout: float = 60.0) -> None:
        """Returns as soon as `enough(self)`; fails after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not enough(self):
            with self._changed:
                left = deadline - time.monotonic()
                assert left > 0, f"not enough arrived: {[(a.path, len(a.body)) for a in self.arrivals()]}"
                self._changed.wait(min(left, 1.0))

    # --- the server's side -----------------------------------------------------------------------------------

    def fault(self, path: str) -> Fault | None:
        """What the script says about the next request to `path`."""
        with self._changed:
            number = self._requests.get(path, 0)
            self._requests[path] = number + 1
            chosen = self.script(path, number) if self.script is not None else None
            self.faults += chosen is not None
            return chosen

    def store(self, arrival: Arrival) -> None:
        """Keeps one request and wakes those who wait."""
        with self._changed:
            self._arrivals.append(arrival)
            self._changed.notify_all()

    def requests(self, path: str) -> int:
        """How many requests came to `path`, failed ones included."""
        with self._changed:
            return self._requests.get(path, 0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a request is what some tests are about."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 100

        def log_message(self, *_: object) -> None:
            """Silence."""

        def do_POST(self) -> None:
            path, body = self.path.split("?")[0], self._body()
            fault = receiver.fault(path)
            if fault is not None and fault.wait is not None:
                fault.wait.wait(100)
            arrival = _decode(path, {name.lower(): value for name, value in self.headers.items()}, body)
            if arrival is None:
                receiver.unexpected.append(path)
                self._answer(404, b"", {})
                return
            if fault is None or fault.stored or fault.status == 200:
                receiver.store(arrival)
            if fault is not None and fault.status == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status = fault.status if fault is not None else 200
            self._answer(status, _answer_to(arrival, status, fault), fault.headers if fault is not None else {})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if body else "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = bytearray()
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                raw = bytes(body)
            else:
                raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw

    return Handler


def _answer_to(arrival: Arrival, status: int, fault: Fault | None) -> bytes:
    if arrival.path == EVENTS and status == 200:
        verdicts = fault.verdicts if fault is not None else {}
        results = {e["uuid"]: {"result": verdicts.get(e["uuid"], "ok")} for e in arrival.body["batch"]}
        return json.dumps({"results": results}).encode()
    if arrival.path.startswith("/v1/"):
        return b""  # an empty protobuf message: everything accepted
    return b'{"status":"Ok"}'


def _decode(path: str, headers: dict[str, str], body: bytes) -> Arrival | None:
    last = path.rstrip("/").rsplit("/", 1)[-1]
    if path in {BATCH, EVENTS}:
        return Arrival(path, headers, json.loads(body))
    if last == "traces":
        return Arrival(path, headers, list(_spans(ExportTraceServiceRequest.FromString(body))))
    if last == "logs":
        return Arrival(path, headers, list(_logs(ExportLogsServiceRequest.FromString(body))))
    if last == "metrics":
        return Arrival(path, headers, [])
    return None


# --- decoding --------------------------------------------------------------------------------------------------------


def _spans(request: ExportTraceServiceRequest) -> Iterator[dict[str, Any]]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "name": span.name,
                    "kind": span.kind,
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "attributes": _attributes(span.attributes),
                    "events": [{"name": e.name, "attributes": _attributes(e.attributes)} for e in span.events],
                    "resource": _attributes(resource.resource.attributes),
                    "scope": scope.scope.name,
                }


def _logs(request: ExportLogsServiceRequest) -> Iterator[dict[str, Any]]:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield {
                    "event_name": record.event_name,
                    "body": _value(record.body),
                    "time_ns": record.time_unix_nano or record.observed_time_unix_nano,
                    "severity": record.severity_text,
                    "trace_id": record.trace_id.hex(),
                    "span_id": record.span_id.hex(),
                    "attributes": _attributes(record.attributes),
                    "resource": _attributes(resource.resource.attributes),
                    "scope": scope.scope.name,
                }


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        assert pair.key not in found, f"attribute {pair.key} came twice"
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)


def is_product(record: dict[str, Any]) -> bool:
    """Whether a log record is an item of our own lane: it carries its final uuid."""
    return "posthog.uuid" in record["attributes"]


def _captured(item: dict[str, Any]) -> Event:
    properties = dict(item["properties"])
    # Capture v1 lifts these out of the properties.
    for key in ("session_id", "window_id"):
        if key in item:
            properties[f"${key}"] = item[key]
    if "process_person_profile" in item.get("options", {}):
        properties["$process_person_profile"] = item["options"]["process_person_profile"]
    return Event(item["event"], item["distinct_id"], item["uuid"], item["timestamp"], properties)


def _carried(record: dict[str, Any]) -> Event:
    """What a gateway makes of a record of our lane: the finished event, nothing added."""
    attributes = dict(record["attributes"])
    assert attributes.pop("posthog.carrier") == "log"
    distinct_id, uuid = attributes.pop("posthog.distinct_id"), attributes.pop("posthog.uuid")
    name = attributes.pop("posthog.event", "") or record["event_name"]
    properties: dict[str, Any] = json.loads(attributes.pop("posthog.properties_json", "{}"))
    for key, value in attributes.items():
        for prefix, inside in _PREFIXES.items():
            if key.startswith(prefix):
                target = properties.setdefault(inside, {}) if inside else properties
                target[key[len(prefix) :]] = value
                break
        else:
            properties[_WHOLE[key]] = value
    for key, value in (("$trace_id", record["trace_id"]), ("$span_id", record["span_id"])):
        if value:
            properties[key] = value
    seconds = record["time_ns"] // 10**9
    return Event(name, distinct_id, uuid, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)), properties)


_PREFIXES = {
    "posthog.properties.": "",
    "posthog.set.": "$set",
    "posthog.set_once.": "$set_once",
    "posthog.groups.": "$groups",
}
_WHOLE = {
    "posthog.unset": "$unset",
    "posthog.session_id": "$session_id",
    "posthog.window_id": "$window_id",
    "posthog.process_person_profile": "$process_person_profile",
}


@contextmanager
def listening(script: Script | None = None) -> Iterator[Receiver]:
    """A running receiver."""
    with Receiver(script) as receiver:
        yield receiver
