"""Builds the delivery behind some settings: which wire, which transport, which sinks. Starts and opens nothing."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from urllib.parse import urlsplit

from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Settings
from otel_posthog.delivery.backoff import Backoff
from otel_posthog.delivery.clock import SystemClock
from otel_posthog.delivery.complaints import Complaints
from otel_posthog.delivery.encoding import choose_compress, choose_dumps
from otel_posthog.delivery.engine import Engine
from otel_posthog.delivery.fanout import FanOut
from otel_posthog.delivery.lane import Exit, LaneDelivery
from otel_posthog.delivery.parts import Parts
from otel_posthog.delivery.protocols import Clock, Delivery, DeliveryStats, Transport
from otel_posthog.delivery.sinks import ConsoleWriter, FileWriter, MemorySink, WriterSink
from otel_posthog.delivery.spool import Spool, folder_name
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.delivery.spread import Spread
from otel_posthog.delivery.transport import MAX_ANSWER_BYTES, Urllib3Transport
from otel_posthog.delivery.wire import Wire
from otel_posthog.delivery.wire_auto import AutoWire
from otel_posthog.delivery.wire_otlp import WireOtlp
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
    senders: int = 1,
) -> Delivery:
    """The delivery that `settings` ask for.

    Args:
        settings: Enabled settings.
        transport: Replaces the HTTP client, for tests.
        clock: Replaces the system clock, for tests.
        send_guard: Entered around every request (suppression of self-instrumentation, in process).
        guard: Told about internal errors.
        resource: Resource attributes of the records that go to a Collector, e.g. `service.name`.
        senders: Requests on their way at a time to where `settings.lane` says (`spread.py`); a second lane has one.

    Raises:
        ConfigError: There is nowhere to deliver to.
    """
    deliveries: dict[str, Delivery] = {}
    for lane, config, number in (
        (settings.lane, settings.delivery, senders),
        # A second lane is an onlooker: what it cannot deliver it gives up, so that nothing is spooled twice.
        (settings.also, replace(settings.delivery, spool_dir=""), 1),
    ):
        if lane is not None:
            deliveries[lane.mode.value] = build_senders(
                lane,
                config,
                number,
                transport=transport,
                clock=clock,
                send_guard=send_guard,
                guard=guard,
                resource=resource,
            )
    for sink in settings.sinks:
        deliveries[sink] = _sink(sink, guard)
    if not deliveries:
        raise ConfigError(
            "there is nowhere to deliver to", key="OTEL_EXPORTER_OTLP_ENDPOINT", hint="Set it, or OTEL_POSTHOG_SINK"
        )
    (_, primary), *onlookers = deliveries.items()
    return FanOut(primary, dict(onlookers), guard=guard) if onlookers else primary


def _sink(spec: str, guard: Guard) -> Delivery:
    word, _, path = spec.partition(":")
    kind = word.strip().lower()
    if kind == "memory":
        return MemorySink()
    if kind == "console":
        return WriterSink(ConsoleWriter(), guard=guard, name="console")
    if kind == "file" and path.strip():
        return WriterSink(FileWriter(path.strip()), guard=guard, name="file")
    raise ConfigError(
        f"the sink {word[:20]!r} is not known", key="OTEL_POSTHOG_SINK", hint="Use console, memory or file:PATH"
    )


def memory_sink(delivery: Delivery) -> MemorySink | None:
    """The memory sink among what `delivery` consists of."""
    if isinstance(delivery, FanOut):
        found = (memory_sink(part) for part in (delivery.primary, *delivery.onlookers.values()))
        return next((sink for sink in found if sink is not None), None)
    return delivery if isinstance(delivery, MemorySink) else None


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
        headers = {name.lower(): value.reveal() for name, value in lane.headers.items()}
        if lane.token:
            headers["authorization"] = f"Bearer {lane.token.reveal()}"
        return WireOtlp(lane.url, headers, dumps=dumps, compress=squeeze, resource=resource)
    host, token = lane.url.rstrip("/"), lane.token.reveal()
    v0 = WireV0(host, token, dumps=dumps, compress=squeeze)
    v1 = WireV1(host, token, dumps=dumps, compress=squeeze)
    return {"v0": v0, "v1": v1}.get(config.wire) or AutoWire(v1, v0)


def build_senders(
    lane: Lane,
    config: DeliveryConfig,
    senders: int,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    send_guard: SendGuardFactory = nullcontext,
    guard: Guard,
    resource: Mapping[str, object] | None = None,
    name: str = "",
) -> Delivery:
    """One destination with `senders` lanes; arguments as in `build_delivery`, `name` is said in log lines.

    Raises:
        ConfigError: `senders` is below 1.
    """
    if senders < 1:
        raise ConfigError(f"{senders} senders send nothing", key="senders", hint="1 or more")
    each = replace(
        config,
        # Half of the queue's limits over all lanes: it must not overflow while each waits for a batch of its own.
        batch_size=max(min(config.batch_size, config.queue_size // (2 * senders)), 1),
        batch_bytes=max(min(config.batch_bytes, config.queue_bytes // (2 * senders)), 1),
        spool_bytes=max(config.spool_bytes // senders, 1),
    )
    leaving = Exit(config.exit_timeout)
    ticks = clock or SystemClock()
    complaints = Complaints(f"{name}, {_name(lane)}" if name else _name(lane), ticks.monotonic)

    def complain(note: str, _: DeliveryStats) -> None:
        complaints(note, delivery.stats())  # of all lanes: what one of them meets they all meet, and say it once

    lanes = [
        build_lane(
            lane,
            config if senders == 1 else each,
            transport=transport,
            clock=clock,
            send_guard=send_guard,
            guard=guard,
            resource=resource,
            leaving=leaving,
            complain=complain,
        )
        for _ in range(senders)
    ]
    delivery = (
        lanes[0] if len(lanes) == 1 else Spread(lanes, queue_size=config.queue_size, queue_bytes=config.queue_bytes)
    )
    return delivery


def build_lane(
    lane: Lane,
    config: DeliveryConfig,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    send_guard: SendGuardFactory = nullcontext,
    guard: Guard,
    resource: Mapping[str, object] | None = None,
    leaving: Exit | None = None,
    complain: Callable[[str, DeliveryStats], None] | None = None,
) -> LaneDelivery:
    """One lane with its own queue, thread and connection; arguments as in `build_delivery`, `leaving` as in `Exit`.

    `complain` is told what goes wrong; by default that is a log line a minute.
    """
    name = _name(lane)
    if transport is None:
        # 58 bytes and a detail for each verdict of a full batch.
        transport = Urllib3Transport(
            ca_file=lane.ca_file,
            client_cert=lane.client_cert,
            client_key=lane.client_key,
            max_answer_bytes=max(MAX_ANSWER_BYTES, 256 * config.batch_size),
        )
    carrier = transport
    ticks = clock or SystemClock()

    # By service, too: those that share a folder may have keys of different projects. Not by key: a new one, after the
    # old was revoked, must find what is waiting for it.
    service = str((resource or {}).get("service.name") or "")
    lane_folder = folder_name(f"{name}@{service}" if service else name)
    spools: list[Spool] = []

    def unused_spool() -> Spool | None:
        if not config.spool_dir:
            return None
        folder = f"{os.path.expanduser(config.spool_dir)}/{lane_folder}"  # noqa: PTH111 - text, as the file layer has it
        return Spool(folder, OsFiles(), max_bytes=config.spool_bytes, now_ns=lambda: int(ticks.time() * 1e9))

    def new_spool() -> Spool | None:
        spool = unused_spool()
        if spool is not None:
            spools.append(spool)
        return spool

    def left_behind() -> bool:
        spool = unused_spool()
        return spool is not None and spool.left_behind()

    def load() -> Wire:
        if isinstance(carrier, Urllib3Transport):
            carrier.load()
        return build_wire(lane, config, resource=resource)

    def new_engine() -> Engine:
        parts = Parts(
            load=load,
            transport=carrier,
            clock=ticks,
            backoff=Backoff(config.retry_initial, config.retry_max, random.random),
            send_guard=send_guard,
            guard=guard,
            complain=complain or Complaints(name, ticks.monotonic),
            new_id=lambda: str(uuid.uuid4()),
            journal=new_spool(),
        )
        return Engine(config, parts)

    def after_fork() -> None:
        if isinstance(carrier, Urllib3Transport):
            carrier.after_fork()
        while spools:
            spools.pop().let_go()

    def close() -> None:
        for spool in spools:
            spool.close()
        carrier.close()

    return LaneDelivery(
        new_engine,
        close=close,
        left_behind=left_behind,
        after_fork=after_fork,
        leaving=leaving or Exit(config.exit_timeout),
        guard=guard,
        name=name,
    )


def _name(lane: Lane) -> str:
    return f"{lane.mode.value}@{urlsplit(lane.url).hostname or '?'}"
