"""Builds the delivery behind some settings: which wire, which transport, which sinks. Starts and opens nothing."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import urlsplit

from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Settings
from otel_posthog.delivery.backoff import Backoff
from otel_posthog.delivery.clock import SystemClock
from otel_posthog.delivery.complaints import Complaints
from otel_posthog.delivery.encoding import choose_compress, choose_dumps
from otel_posthog.delivery.engine import Engine, Parts
from otel_posthog.delivery.lane import LaneDelivery
from otel_posthog.delivery.protocols import Clock, Delivery, Transport
from otel_posthog.delivery.transport import MAX_ANSWER_BYTES, Urllib3Transport
from otel_posthog.delivery.wire import Wire
from otel_posthog.delivery.wire_auto import AutoWire
from otel_posthog.delivery.wire_v0 import WireV0
from otel_posthog.delivery.wire_v1 import WireV1
from otel_posthog.errors import ConfigError

Guard = Callable[[str, BaseException], None]
SendGuardFactory = Callable[[], AbstractContextManager[object]]


def build_delivery(
    settings: Settings,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    send_guard: SendGuardFactory = nullcontext,
    guard: Guard,
    resource: Mapping[str, object] | None = None,
) -> Delivery:
    """The delivery that `settings` ask for.

    Args:
        settings: Enabled settings.
        transport: Replaces the HTTP client, for tests.
        clock: Replaces the system clock, for tests.
        send_guard: Entered around every request (suppression of self-instrumentation, in process).
        guard: Told about internal errors.
        resource: Resource attributes of the records that go to a Collector, e.g. `service.name`.

    Raises:
        ConfigError: There is nowhere to deliver to.
    """
    if settings.lane is None:
        raise ConfigError("there is no lane to deliver to", key="OTEL_EXPORTER_OTLP_ENDPOINT")
    return build_lane(
        settings.lane,
        settings.delivery,
        transport=transport,
        clock=clock,
        send_guard=send_guard,
        guard=guard,
        resource=resource,
    )


def build_wire(
    lane: Lane, config: DeliveryConfig, *, fast: bool = True, resource: Mapping[str, object] | None = None
) -> Wire:
    """The wire codec of one lane.

    Args:
        lane: Where to.
        config: Compression and wire version.
        fast: Use orjson and isal where installed.
        resource: Resource attributes for a Collector.
    """
    squeeze = choose_compress(fast=fast) if config.compression == "gzip" else None
    dumps = choose_dumps(fast=fast)
    if lane.mode is Mode.COLLECTOR:
        raise ConfigError("no OTLP yet")
    host, token = lane.url.rstrip("/"), lane.token.reveal()
    v0 = WireV0(host, token, dumps=dumps, compress=squeeze)
    v1 = WireV1(host, token, dumps=dumps, compress=squeeze)
    return {"v0": v0, "v1": v1}.get(config.wire) or AutoWire(v1, v0)


def build_lane(
    lane: Lane,
    config: DeliveryConfig,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    send_guard: SendGuardFactory = nullcontext,
    guard: Guard,
    resource: Mapping[str, object] | None = None,
) -> LaneDelivery:
    """One lane with its own queue, thread and connection; arguments as in `build_delivery`."""
    host = urlsplit(lane.url).hostname or "?"
    name = f"{lane.mode.value}@{host}"
    if transport is None:
        # 58 bytes and a detail for each verdict of a full batch.
        transport = Urllib3Transport(max_answer_bytes=max(MAX_ANSWER_BYTES, 256 * config.batch_size))
    carrier = transport
    ticks = clock or SystemClock()

    def new_engine() -> Engine:
        parts = Parts(
            wire=build_wire(lane, config, resource=resource),
            transport=carrier,
            clock=ticks,
            backoff=Backoff(config.retry_initial, config.retry_max, random.random),
            send_guard=send_guard,
            guard=guard,
            complain=Complaints(name, ticks.monotonic),
            new_id=lambda: str(uuid.uuid4()),
            journal=None,
        )
        return Engine(config, parts)

    def after_fork() -> None:
        if isinstance(carrier, Urllib3Transport):
            carrier.after_fork()

    return LaneDelivery(
        new_engine, close=carrier.close, after_fork=after_fork, exit_timeout=config.exit_timeout, guard=guard, name=name
    )
