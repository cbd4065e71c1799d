"""The shipped configurations do what they say: agent → Collector tier → a gateway, with the real Collector."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.trace import Status, StatusCode

from tests.fixtures.collector import CONFIGURATIONS, Collector, Ports
from tests.fixtures.collector_senders import GATEWAY_TOKEN, SENDER_TOKEN, START, Oracle, post, request_of, sdk
from tests.fixtures.otlp_receiver import OtlpReceiver


@contextmanager
def tier(
    folder: Path, binary: Path, *, overlay: str = "", up: bool = True, **env: str
) -> Iterator[tuple[Collector, OtlpReceiver, OtlpReceiver]]:
    """The Collector tier with the shipped configuration, a gateway and a tracing backend behind it.

    Args:
        folder: For queue, log and overlay.
        binary: The Collector.
        overlay: YAML on top of the shipped configuration.
        up: Whether the gateway listens from the start.
        env: Further settings.
    """
    gateway, backend = OtlpReceiver(token=GATEWAY_TOKEN), OtlpReceiver()
    files = [CONFIGURATIONS / "otelcol-gateway.yaml"]
    if overlay:
        (folder / "overlay.yaml").write_text(overlay)
        files.append(folder / "overlay.yaml")
    settings = {
        "COLLECTOR_TOKEN": SENDER_TOKEN,
        "GATEWAY_TOKEN": GATEWAY_TOKEN,
        "QUEUE_DIR": str(folder / "queue"),
        "GATEWAY_ENDPOINT": gateway.url,
        "OBSERVABILITY_ENDPOINT": backend.url,
        **env,
    }
    with backend, Collector(files, settings, binary=binary, log=folder / "tier.log") as collector:
        if up:
            gateway.start()
        try:
            yield collector, gateway, backend
        finally:
            # First, since it would wait for a gateway that is not there.
            collector.kill()
            gateway.stop()


# The same promises in less time: waits between attempts and before a batch are short.
QUICK = """
exporters:
  otlp_http/gateway:
    retry_on_failure: {initial_interval: 50ms, max_interval: 100ms}
    sending_queue: {batch: {flush_timeout: 50ms, min_size: 1}}
  otlp_http/observability: {sending_queue: {batch: {flush_timeout: 50ms, min_size: 1}}}
"""


@pytest.mark.row(23)
@pytest.mark.parametrize("percentage", ["1", "100"])
def test_product_data_leaves_before_sampling(percentage: str, collector_binary: Path, tmp_path: Path) -> None:
    """Through agent and tier, whatever the sampling: product data and nothing else at the gateway, all else beside."""
    (tmp_path / "agent").mkdir()
    with tier(tmp_path, collector_binary, overlay=QUICK, TRACE_PERCENTAGE=percentage, DECISION_WAIT="1s") as (
        collector,
        gateway,
        backend,
    ):
        settings = {
            "COLLECTOR_TOKEN": SENDER_TOKEN,
            "TIER_ENDPOINT": collector.ports.http_url,
            "QUEUE_DIR": str(tmp_path / "agent" / "queue"),
        }
        agent = Collector(
            CONFIGURATIONS / "otelcol-agent.yaml", settings, binary=collector_binary, log=tmp_path / "agent.log"
        )
        with agent, sdk(agent) as (tracers, loggers):
            tracer, logger = tracers.get_tracer("shop"), loggers.get_logger("shop")
            for number in range(60):
                with tracer.start_as_current_span(f"plain {number}"):
                    pass
                if number % 3 == 0:
                    with tracer.start_as_current_span("buy", attributes={"posthog.event": "paid", "order": number}):
                        pass
            with tracer.start_as_current_span("failing") as span:
                span.record_exception(ValueError("no"))
                span.add_event("a note")
                span.set_status(Status(StatusCode.ERROR))
            for name, attributes in (
                ("", {"posthog.event": "signed up"}),
                ("order.paid", {"posthog.carrier": "log", "posthog.uuid": "u"}),
                ("", {"exception.type": "ValueError", "exception.message": "no"}),
                ("feature_flag.evaluation", {"feature_flag.key": "new"}),
                ("", {"plain": True}),
            ):
                logger.emit(
                    LogRecord(
                        timestamp=START,
                        severity_number=SeverityNumber.INFO,
                        body="a line",
                        event_name=name or None,
                        attributes=attributes,
                    )
                )
            gateway.wait(lambda: len(gateway.spans) >= 21 and len(gateway.logs) >= 4)
            backend.wait(lambda: len(backend.logs) >= 4)
            backend.wait(lambda: "failing" in {span.name for span in backend.spans})
            if percentage == "100":
                backend.wait(lambda: len(backend.spans) >= 81)
    assert sorted(span.name for span in gateway.spans) == sorted(["buy"] * 20 + ["failing"])
    failing = next(span for span in gateway.spans if span.name == "failing")
    assert [event.name for event in failing.events] == ["exception", "a note"]
    assert [pair.key for pair in failing.attributes] == []
    kinds = {tuple(sorted(pair.key for pair in log.attributes)) for log in gateway.logs}
    assert kinds == {
        ("posthog.event",),
        ("posthog.carrier", "posthog.uuid"),
        ("exception.message", "exception.type"),
        ("feature_flag.key",),
    }
    # What people read, without the finished product events.
    assert sorted(tuple(sorted(pair.key for pair in log.attributes)) for log in backend.logs) == [
        ("exception.message", "exception.type"),
        ("feature_flag.key",),
        ("plain",),
        ("posthog.event",),
    ]
    names = [span.name for span in backend.spans]
    if percentage == "100":
        assert sorted(names) == sorted([f"plain {number}" for number in range(60)] + ["buy"] * 20 + ["failing"])
    else:
        assert len(names) < 30
    # The token for the gateway reaches the gateway, and neither token the tracing backend.
    assert {headers["authorization"] for _, headers in gateway.requests} == {f"Bearer {GATEWAY_TOKEN}"}
    assert not any("authorization" in headers for _, headers in backend.requests)


def test_secrets_are_masked_and_identity_is_not(collector_binary: Path, tmp_path: Path) -> None:
    """Redaction masks what looks like a secret by key or value, and never what says who it was."""
    secret = {
        "http.request.header.authorization": "Bearer abcdefghijkl",
        "db.password": "hunter2",
        "posthog.properties.api_key": "k",
        "note": "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig today",
        "card": "4111 1111 1111 1111",
    }
    kept = {
        "posthog.event": "paid",
        "posthog.distinct_id": "4111 1111 1111 1111",
        "posthog.session_id": "0190",
        "posthog.groups.company": "secret corp",
        "user.id": "AKIAIOSFODNN7EXAMPLE",
        "posthog.properties.author": "me",
    }
    with tier(tmp_path, collector_binary, overlay=QUICK) as (collector, gateway, _), sdk(collector) as (tracers, _):
        tracers.get_tracer("shop").start_span("buy", attributes={**secret, **kept}).end()
        gateway.wait(lambda: bool(gateway.spans))
    found = {pair.key: pair.value.string_value for pair in gateway.spans[0].attributes}
    assert {key: found[key] for key in kept} == kept
    assert {key: found[key] for key in secret} == {
        "http.request.header.authorization": "****",
        "db.password": "****",
        "posthog.properties.api_key": "****",
        "note": "got **** today",
        "card": "****",
    }


@pytest.mark.row(20)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.soak)])
def test_killed_collector_loses_nothing_acknowledged(kills: int, collector_binary: Path, tmp_path: Path) -> None:
    """Gateway down, Collector killed (-9) again and again while it takes data: all that it acknowledged arrives."""
    dice = random.Random(20)
    with tier(tmp_path, collector_binary, overlay=QUICK, up=False) as (collector, gateway, _):
        oracle = Oracle(collector.ports)
        killed = 0
        # More of them where a slow machine has taken little between two.
        while killed < kills or len(oracle.acknowledged) <= 100:
            assert killed < 5 * kills, len(oracle.acknowledged)
            killed += 1
            until = oracle.given + dice.randrange(20, 120)
            killer = threading.Timer(dice.random() * 0.2, collector.kill)
            killer.start()
            while killer.is_alive() or oracle.given < until:
                if oracle.send() == 0 and not killer.is_alive():
                    break
            killer.join()
            collector.start()
        assert oracle.send() == 200
        gateway.start()
        try:
            gateway.wait(lambda: oracle.met_by(gateway), 60 + kills)
        except AssertionError:
            missing = sorted(oracle.acknowledged - {span.name for span in gateway.spans})
            raise AssertionError(f"{len(missing)} of {len(oracle.acknowledged)}: {missing[:40]}") from None
    names = [span.name for span in gateway.spans]
    # What arrives twice is one event: the gateway makes its uuid of trace and span.
    assert oracle.acknowledged <= set(names) <= oracle.acknowledged | set(oracle.refused)


@pytest.mark.row(20)
def test_without_storage_a_kill_loses_data(collector_binary: Path, tmp_path: Path) -> None:
    """What the queue on disk is for: the same kill with the default queue, in memory, loses what was acknowledged."""
    overlay = QUICK.replace("sending_queue: {batch", "sending_queue: {storage: null, batch", 1)
    with tier(tmp_path, collector_binary, overlay=overlay, up=False) as (collector, gateway, _):
        oracle = Oracle(collector.ports)
        assert oracle.send() == 200
        lost = set(oracle.acknowledged)
        collector.kill()
        collector.start()
        gateway.start()
        assert oracle.send() == 200
        _arrives(gateway, oracle.acknowledged - lost)


@pytest.mark.row(20)
def test_a_stopped_collector_keeps_its_queue(collector_binary: Path, tmp_path: Path) -> None:
    """An orderly restart in an outage keeps what waits."""
    with tier(tmp_path, collector_binary, overlay=QUICK, up=False) as (collector, gateway, _):
        oracle = Oracle(collector.ports)
        assert [oracle.send() for _ in range(20)] == [200] * 20
        assert collector.stop() == 0
        collector.start()
        gateway.start()
        gateway.wait(lambda: oracle.met_by(gateway))
        assert len(oracle.acknowledged) == 100


@pytest.mark.row(22)
def test_an_outage_longer_than_max_elapsed_time(collector_binary: Path, tmp_path: Path) -> None:
    """With a limit on retries the outage loses data; the shipped configuration has none, and loses nothing."""
    for limit in ("200ms", "0s"):
        folder = tmp_path / limit
        folder.mkdir()
        overlay = QUICK.replace("max_interval: 100ms", f"max_interval: 100ms, max_elapsed_time: {limit}")
        with tier(folder, collector_binary, overlay=overlay) as (collector, gateway, _):
            gateway.status = 503
            oracle = Oracle(collector.ports)
            assert oracle.send() == 200
            if limit == "0s":
                # Far more attempts than fit into the limit above.
                gateway.wait(lambda: len(gateway.requests) > 20)
            else:
                _until(collector, lambda metrics: metrics.get("otelcol_exporter_send_failed_spans", 0) >= 5)
            gateway.status = 200
            early = set(oracle.acknowledged)
            assert oracle.send() == 200
            expected = oracle.acknowledged if limit == "0s" else oracle.acknowledged - early
            _arrives(gateway, expected)


def _arrives(receiver: OtlpReceiver, names: set[str]) -> None:
    receiver.wait(lambda: names <= {span.name for span in receiver.spans})
    assert {span.name for span in receiver.spans} == names


def _until(collector: Collector, condition: object) -> None:
    """Asks the Collector's own metrics until they meet `condition`."""
    assert callable(condition)
    pause = threading.Event()
    for _ in range(1200):
        if condition(collector.metrics()):
            return
        pause.wait(0.05)
    raise AssertionError(collector.metrics())


@pytest.mark.row(21)
def test_a_full_queue_makes_senders_wait(collector_binary: Path, tmp_path: Path) -> None:
    """With `block_on_overflow` (shipped) a full queue holds up the sender, and what it then sends again arrives."""
    with tier(tmp_path, collector_binary, overlay=QUICK, up=False, QUEUE_BYTES="20000") as (collector, gateway, _):
        oracle = Oracle(collector.ports, padding=1_000)
        statuses: list[int] = []
        while 0 not in statuses:
            assert len(statuses) < 50, "the queue is never full"
            statuses.append(oracle.send(timeout=4))
        # Not refused: no answer, until there is room.
        assert set(statuses) == {200, 0}
        assert statuses.count(200) > 1
        gateway.start()
        for name in list(oracle.refused):
            assert oracle.repeat([name]) == 200
        gateway.wait(lambda: oracle.met_by(gateway))
        assert {span.name for span in gateway.spans} == {f"paid {number}" for number in range(oracle.given)}


@pytest.mark.row(21)
def test_a_full_queue_without_blocking_refuses(collector_binary: Path, tmp_path: Path) -> None:
    """Without `block_on_overflow` a full queue refuses, retryably and counted; only who does not retry loses."""
    overlay = QUICK.replace("sending_queue: {batch", "sending_queue: {block_on_overflow: false, batch", 1)
    with tier(tmp_path, collector_binary, overlay=overlay, up=False, QUEUE_BYTES="20000") as (collector, gateway, _):
        oracle = Oracle(collector.ports, padding=1_000)
        statuses = [oracle.send() for _ in range(20)]
        assert set(statuses) == {200, 503}
        refused = len(oracle.refused)
        assert collector.metrics()["otelcol_exporter_enqueue_failed_spans"] == refused
        gateway.start()
        gateway.wait(lambda: oracle.met_by(gateway))
        assert {span.name for span in gateway.spans} == oracle.acknowledged
        assert refused + len(oracle.acknowledged) == oracle.given


@pytest.mark.row(21)
def test_the_memory_limiter_refuses_retryably(collector_binary: Path, tmp_path: Path) -> None:
    """Over its memory limit the Collector answers 503, which every client sends again."""
    with tier(tmp_path, collector_binary, MEMORY_LIMIT_MIB="2", MEMORY_SPIKE_MIB="1") as (collector, _, _):
        _until(collector, lambda _: post(collector.ports, request_of(["paid"])) == 503)
        assert collector.metrics()["otelcol_receiver_refused_spans"] > 0


@pytest.mark.row(23)
def test_a_crash_while_traces_wait(collector_binary: Path, tmp_path: Path) -> None:
    """A crash in `decision_wait` loses the traces that wait for it, and none of the product data."""
    with tier(tmp_path, collector_binary, overlay=QUICK, DECISION_WAIT="60s", TRACE_PERCENTAGE="100") as (
        collector,
        gateway,
        backend,
    ):
        oracle = Oracle(collector.ports)
        assert [oracle.send() for _ in range(10)] == [200] * 10
        assert post(collector.ports, request_of(["plain"], tagged=False)) == 200
        collector.kill()
        assert backend.spans == []
        collector.start()
        gateway.wait(lambda: oracle.met_by(gateway))
        # What waited was in memory, and is nowhere any more.
        assert collector.metrics().get("otelcol_processor_tail_sampling_sampling_traces_on_memory", 0) == 0
        assert {span.name for span in gateway.spans} == oracle.acknowledged


@pytest.mark.row(39)
def test_who_may_send(collector_binary: Path, tmp_path: Path) -> None:
    """Only with the token, on both protocols; a file of tokens is rotated without a restart."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old-token\n")
    body = request_of(["paid"])
    with tier(tmp_path, collector_binary, overlay=QUICK, COLLECTOR_TOKEN_FILE=str(tokens)) as (collector, gateway, _):
        ports = collector.ports
        for wrong in ("", "wrong", "old-toke", "old-token2", SENDER_TOKEN):
            assert post(ports, body, token=wrong) == 401
            assert _grpc(ports, body, wrong) is grpc.StatusCode.UNAUTHENTICATED
        assert post(ports, body, token="old-token") == 200
        assert _grpc(ports, body, "old-token") is grpc.StatusCode.OK
        tokens.write_text("new-token # since today\nold-token\n")
        _until(collector, lambda _: post(ports, body, token="new-token") == 200)
        assert post(ports, body, token="old-token") == 200
        tokens.write_text("new-token\n")
        _until(collector, lambda _: post(ports, body, token="old-token") == 401)
        assert post(ports, body, token="new-token") == 200
        gateway.wait(lambda: len(gateway.spans) >= 5)
    for token in ("old-token", "new-token", GATEWAY_TOKEN):
        assert token not in collector.text


def _grpc(ports: Ports, body: bytes, token: str) -> grpc.StatusCode:
    with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        try:
            TraceServiceStub(channel).Export(ExportTraceServiceRequest.FromString(body), metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK
