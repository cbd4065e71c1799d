"""The Collector's own exporters, in Go, as clients of both receivers: what each answer makes them do."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.gateway.decode.request import decode_traces
from otel_posthog.gateway.inbound import OK, Answer, AnswerKind
from otel_posthog.gateway.receivers import Credentials
from tests.fixtures.collector import Collector
from tests.unit.gateway.receivers.rig import FakeIntake, Rig, Start, post, tokens

CONFIG = """
receivers:
  otlp: {{protocols: {{http: {{endpoint: "${{env:OTLP_HTTP_ENDPOINT}}"}}}}}}
exporters:
  {exporter}:
    endpoint: {endpoint}
    {tls}
    compression: {compression}
    headers: {{authorization: "Bearer s3cret"}}
    retry_on_failure: {{initial_interval: 50ms, max_interval: 50ms, max_elapsed_time: 0, randomization_factor: 0}}
    sending_queue: {{enabled: true, num_consumers: 4}}
extensions:
  health_check: {{endpoint: "${{env:HEALTH_ENDPOINT}}"}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [{exporter}]}}
"""


def spans(*names: str) -> bytes:
    """A request with these spans."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number, name in enumerate(names, 1):
        scope.spans.add(name=name, trace_id=bytes([number]) * 16, span_id=bytes([number]) * 8)
    return request.SerializeToString()


def collector(rig: Rig, folder: Path, over: str, compression: str) -> Collector:
    """A Collector that exports to the rig."""
    config = folder / "collector.yaml"
    config.write_text(
        CONFIG.format(
            exporter="otlp_grpc" if over == "grpc" else "otlp_http",
            endpoint=f"127.0.0.1:{rig.grpc}" if over == "grpc" else f"http://127.0.0.1:{rig.http}",
            tls="tls: {insecure: true}" if over == "grpc" else "",
            compression=compression,
        )
    )
    return Collector(config, log=folder / "collector.log")


OVER = pytest.mark.parametrize("over", ["http", "grpc"])


@pytest.mark.row(51)
@OVER
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_it_sends_arrives(
    start: Start,
    tmp_path: Path,
    collector_binary: Path,
    over: str,
    compression: str,
) -> None:
    """Compressed as it was, with its credential."""
    rig = start(None, tokens(ada="s3cret"))
    with collector(rig, tmp_path, over, compression) as sender:
        assert post(sender.ports.http, body=spans("checkout", "refund")).status == 200
        assert rig.intake.arrived.acquire(timeout=60)
    [inbound] = rig.intake.seen
    assert (inbound.caller, inbound.transport, inbound.gzip) == ("ada", over, compression == "gzip")
    body = gzip.decompress(inbound.body) if inbound.gzip else inbound.body
    assert [signal.name for signal in decode_traces(body, content_type=inbound.media_type)] == ["checkout", "refund"]


@pytest.mark.row(37)
@OVER
def test_faults_of_ours_make_it_come_again(
    start: Start,
    tmp_path: Path,
    collector_binary: Path,
    over: str,
) -> None:
    """An exception, no room, a refusal and an answer that is late: the same request comes until it is taken."""
    faults: list[Any] = [ValueError("a fault"), Answer(AnswerKind.RETRY), None, ValueError("another")]
    rig = start(FakeIntake(), tokens(ada="s3cret"), answer_timeout=0.2)
    rig.intake.answer = lambda _: faults.pop() if faults else OK
    with collector(rig, tmp_path, over, "gzip") as sender:
        assert post(sender.ports.http, body=spans("checkout")).status == 200
        for _ in range(5):
            assert rig.intake.arrived.acquire(timeout=60)
    assert faults == []
    assert len(rig.intake.seen) == 5
    assert len({gzip.decompress(inbound.body) for inbound in rig.intake.seen}) == 1


@OVER
@pytest.mark.parametrize(
    "answer",
    [
        Answer(AnswerKind.BAD_DATA, message="canary"),
        Answer(AnswerKind.TOO_LARGE, message="canary"),
        Answer(AnswerKind.FORBIDDEN, message="canary"),
        Answer(AnswerKind.OK, rejected=1, message="canary"),
    ],
    ids=lambda answer: answer.kind.value,
)
def test_what_is_hopeless_is_sent_once(
    start: Start,
    tmp_path: Path,
    collector_binary: Path,
    over: str,
    answer: Answer,
) -> None:
    """And our message is in its log."""
    rig = start(FakeIntake(answer), tokens(ada="s3cret"))
    with collector(rig, tmp_path, over, "gzip") as sender:
        assert post(sender.ports.http, body=spans("hopeless")).status == 200
        assert rig.intake.arrived.acquire(timeout=60)
        rig.intake.answer = OK
        assert post(sender.ports.http, body=spans("next")).status == 200
        assert rig.intake.arrived.acquire(timeout=60)
    assert len(rig.intake.seen) == 2
    assert "canary" in (tmp_path / "collector.log").read_text()


@pytest.mark.row(39)
@OVER
def test_a_bad_token_makes_it_discard(
    start: Start,
    tmp_path: Path,
    collector_binary: Path,
    over: str,
) -> None:
    """Which is why 401 is only ever said of the caller's own credential."""
    credentials: Credentials = tokens(ada="another")
    rig = start(None, credentials)
    with collector(rig, tmp_path, over, "gzip") as sender:
        assert post(sender.ports.http, body=spans("checkout")).status == 200
        while not rig.books.count("receiver_refused", why="unauthenticated"):
            assert sender.healthy()
    assert rig.books.count("receiver_refused", why="unauthenticated") == 1
    assert rig.intake.seen == []
