"""What a Collector sends a gateway: 1,000 Flask-like spans of three services, 15 attributes each, in one request.

- `A`: no span is of interest to PostHog;
- `B`: 1 % of them are tagged (5 attributes on top), and 0.5 % bring an exception with a stack of 2 KB;
- `C`: all of them are tagged.

Made once from a seed: every run and both sides see the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

SPANS: Final = 1_000
START: Final = 1_763_600_000_000_000_000
_ROUTES: Final = ("/cart/<int:number>", "/orders", "/orders/<int:order>/pay", "/", "/search", "/login")
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1",
)
_STACK: Final = "Traceback (most recent call last):\n" + "".join(
    f'  File "/app/shop/{module}.py", line {line}, in {function}\n    {function}(order, customer, retries={line % 5})\n'
    for line, (module, function) in enumerate(
        [("views", "pay"), ("orders", "settle"), ("payments", "charge"), ("clients", "request")] * 5, 40
    )
)


def body(kind: str, count: int = SPANS) -> bytes:
    """An `ExportTraceServiceRequest` of `count` spans; `kind` is `A`, `B` or `C`."""
    rng = random.Random(kind)
    request = ExportTraceServiceRequest()
    for service in range(3):
        of_service = range(service, count, 3)
        request.resource_spans.append(
            ResourceSpans(
                resource=Resource(attributes=_pairs(_resource(service))),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name="opentelemetry.instrumentation.flask", version="0.66b1"),
                        spans=[_span(rng, kind, number) for number in of_service],
                    )
                ],
            )
        )
    return request.SerializeToString()


def variants(kind: str, count: int, first: int = 0, size: int = SPANS) -> Iterator[bytes]:
    """`count` such bodies of `size` spans, each with trace ids of its own where somebody could tell."""
    request = ExportTraceServiceRequest.FromString(body(kind, size))
    spans = [span for owner in request.resource_spans for scope in owner.scope_spans for span in scope.spans]
    wanted = [span for span in spans if span.events or any(pair.key == "posthog.event" for pair in span.attributes)]
    for number in range(first, first + count):
        for span in wanted:
            span.trace_id = number.to_bytes(8, "big") + span.trace_id[8:]
        yield request.SerializeToString()


def tagged(kind: str, number: int) -> bool:
    """Whether span `number` of such a body is tagged."""
    return kind == "C" or (kind == "B" and number % 100 == 7)


def failed(kind: str, number: int) -> bool:
    """Whether span `number` of such a body brings an exception."""
    return kind == "B" and number % 200 == 13


def _span(rng: random.Random, kind: str, number: int) -> Span:
    route = rng.choice(_ROUTES)
    attributes: dict[str, Any] = {
        "http.method": rng.choice(("GET", "POST")),
        "http.server_name": "0.0.0.0",
        "http.scheme": "https",
        "net.host.name": "shop.example",
        "http.host": "shop.example:8443",
        "net.host.port": 8443,
        "http.target": f"{route}?page={rng.randrange(50)}",
        "net.peer.ip": f"203.0.113.{rng.randrange(256)}",
        "net.peer.port": rng.randrange(1024, 65536),
        "http.user_agent": rng.choice(_AGENTS),
        "http.flavor": "1.1",
        "http.route": route,
        "http.status_code": rng.choice((200, 200, 200, 302, 404)),
        "thread.id": 140_000 + number % 8,
        "thread.name": f"worker-{number % 8}",
    }
    if tagged(kind, number):
        attributes |= {
            "posthog.event": "order paid",
            "posthog.distinct_id": f"user-{rng.randrange(100_000)}",
            "posthog.properties.total": round(rng.uniform(1, 500), 2),
            "posthog.properties.currency": "EUR",
            "posthog.properties.plan": rng.choice(("free", "pro")),
        }
    start = START + number * 1_000_000
    events: list[Span.Event] = []
    if failed(kind, number):
        of_error = {
            "exception.type": "shop.payments.DeclinedError",
            "exception.message": f"card declined for order {number}",
            "exception.stacktrace": f"{_STACK}shop.payments.DeclinedError: card declined for order {number}\n",
            "exception.escaped": "False",
        }
        events.append(Span.Event(name="exception", time_unix_nano=start + 5_000_000, attributes=_pairs(of_error)))
    return Span(
        trace_id=rng.randbytes(16),
        span_id=rng.randbytes(8),
        parent_span_id=rng.randbytes(8),
        name=f"GET {route}",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=start,
        end_time_unix_nano=start + rng.randrange(1_000_000, 90_000_000),
        attributes=_pairs(attributes),
        events=events,
        status=Status(code=Status.STATUS_CODE_ERROR if events else Status.STATUS_CODE_UNSET),
        flags=0x101,
    )


def _resource(service: int) -> dict[str, Any]:
    return {
        "service.name": ("shop", "cart", "payments")[service],
        "service.version": "1.4.2",
        "service.instance.id": f"shop-7d9c-{service}",
        "deployment.environment.name": "prod",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": "1.45.1",
        "process.runtime.name": "cpython",
        "process.runtime.version": "3.11.7",
        "os.type": "linux",
        "host.arch": "amd64",
        "k8s.pod.name": f"shop-7d9c-{service}",
    }


def _pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in attributes.items()]


def _any(value: Any) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
