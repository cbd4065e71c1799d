"""What every OTLP receiver promises, run over HTTP with protobuf, HTTP with JSON, and gRPC."""

from __future__ import annotations

import gzip
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_posthog.gateway.inbound import JSON, OK, PROTOBUF, Answer, AnswerKind, Inbound
from otel_posthog.gateway.receivers import Credentials, TokenSource
from otel_posthog.gateway.receivers.stray_metrics import MESSAGE
from tests.unit.gateway.receivers.rig import Client, FakeIntake, Outcome, Start, tokens, write

MIB = 1024 * 1024


@pytest.fixture(params=["protobuf", "json", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each way to send OTLP."""
    name: str = request.param
    return name


Sending = Callable[..., tuple[Client, FakeIntake]]


@pytest.fixture
def sending(transport: str, start: Start) -> Sending:
    """Starts receivers, and a client of each way to send."""

    def build(*arguments: Any, **settings: Any) -> tuple[Client, FakeIntake]:
        rig = start(*arguments, **settings)
        return Client(transport, rig), rig.intake

    return build


KINDS = pytest.mark.parametrize("kind", ["traces", "logs"])


# --- what arrives --------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("compress", [False, True])
def test_a_request_arrives_as_it_was_sent(sending: Sending, kind: Any, compress: bool) -> None:
    """Kind, encoding, caller and body; compressed bytes stay compressed."""
    client, intake = sending(None, tokens(ada="s3cret"))
    body = b"\x0a\x02\x12\x00" * 300
    assert client.send(kind, body, compress=compress, token="s3cret") == Outcome("OK")
    [inbound] = intake.seen
    media = JSON if client.name == "json" else PROTOBUF
    assert (inbound.kind, inbound.media_type, inbound.caller, inbound.transport) == (
        kind,
        media,
        "ada",
        client.transport,
    )
    assert inbound.gzip is compress
    assert (gzip.decompress(inbound.body) if compress else inbound.body) == body


@pytest.mark.row(36)
@KINDS
def test_an_empty_request_is_fine(sending: Sending, kind: str) -> None:
    """Nothing was sent, nothing was rejected; `partial_success` stays unset."""
    client, intake = sending()
    assert client.send(kind, b"") == Outcome("OK")
    assert [inbound.body for inbound in intake.seen] == [b""]


def test_large_bodies_arrive_whole(sending: Sending) -> None:
    """Those that are looked into by a thread of their own too."""
    client, intake = sending()
    bodies = [bytes([size % 251]) * size for size in (1, 8_191, 32_769, 300_000, 3 * MIB)]
    assert [client.send("traces", body) for body in bodies] == [Outcome("OK")] * len(bodies)
    assert [inbound.body for inbound in intake.seen] == bodies


# --- what is answered ----------------------------------------------------------------------------------------------


@KINDS
def test_partial_success_is_exact(sending: Sending, kind: str) -> None:
    """So many can never be used, and why."""
    client, _ = sending(FakeIntake(Answer(AnswerKind.OK, rejected=7, message="7 without a name")))
    assert client.send(kind) == Outcome("OK", "7 without a name", rejected=7)


@KINDS
def test_a_warning_rejects_nothing(sending: Sending, kind: str) -> None:
    """A message without a count says that all was accepted, and what was done to it."""
    client, _ = sending(FakeIntake(Answer(AnswerKind.OK, message="cut")))
    assert client.send(kind) == Outcome("OK", "cut", rejected=0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(AnswerKind.BAD_DATA, message="no OTLP"), Outcome("INVALID_ARGUMENT", "no OTLP")),
        (Answer(AnswerKind.TOO_LARGE, message="too much"), Outcome("RESOURCE_EXHAUSTED", "too much")),
        (Answer(AnswerKind.FORBIDDEN, message="no project"), Outcome("PERMISSION_DENIED", "no project")),
        (Answer(AnswerKind.RETRY, message="disk full"), Outcome("UNAVAILABLE", "disk full", retry=1)),
        (Answer(AnswerKind.RETRY, message="later", retry_after=9), Outcome("UNAVAILABLE", "later", retry=9)),
        (Answer(AnswerKind.RETRY, message="later", retry_after=900), Outcome("UNAVAILABLE", "later", retry=30)),
        (Answer(AnswerKind.RETRY, message="later", retry_after=-3), Outcome("UNAVAILABLE", "later", retry=1)),
        (Answer(AnswerKind.RETRY), Outcome("UNAVAILABLE", "retry", retry=1)),
    ],
)
def test_each_answer_is_mapped(sending: Sending, answer: Answer, expected: Outcome) -> None:
    """Only what may be sent again is retryable, and never after more than half a minute."""
    client, _ = sending(FakeIntake(answer))
    assert client.send("traces", b"x") == expected


def test_long_messages_are_cut(sending: Sending) -> None:
    """1 KiB is kept, of whole characters; half a surrogate does no harm."""
    client, _ = sending(FakeIntake(Answer(AnswerKind.OK, rejected=1, message="é" * 5000)))
    assert client.send("logs") == Outcome("OK", "é" * 512, rejected=1)
    client, _ = sending(FakeIntake(Answer(AnswerKind.BAD_DATA, message="\ud83e" + "x" * 5000)))
    assert client.send("logs") == Outcome("INVALID_ARGUMENT", "?" + "x" * 1023)


def test_answers_may_come_from_other_threads(sending: Sending) -> None:
    """As those of a group commit do."""
    client, intake = sending(FakeIntake(Answer(AnswerKind.OK, rejected=2, message="two")))
    intake.from_thread = True
    assert [client.send("traces", b"x") for _ in range(20)] == [Outcome("OK", "two", rejected=2)] * 20


def test_only_the_first_answer_counts(sending: Sending) -> None:
    """An intake that breaks its promise breaks no connection."""
    client, intake = sending()

    def twice(inbound: Inbound, done: Callable[[Answer], None]) -> None:
        done(OK)
        done(Answer(AnswerKind.BAD_DATA))
        raise RuntimeError("after the answer")

    intake.receive = twice  # type: ignore[method-assign]
    assert [client.send("traces", b"x") for _ in range(3)] == [Outcome("OK")] * 3


def test_many_clients_each_get_their_own_answer(sending: Sending) -> None:
    """Nobody hears what was meant for another."""
    client, intake = sending()
    intake.answer = lambda inbound: Answer(AnswerKind.OK, rejected=len(inbound.body), message="bytes")
    intake.from_thread = True
    sizes = [1 + number * 997 for number in range(40)]
    heard: dict[int, Outcome] = {}

    def send(size: int) -> None:
        heard[size] = client.send("logs", b"y" * size)

    threads = [threading.Thread(target=send, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {size: Outcome("OK", "bytes", rejected=size) for size in sizes}


# --- faults of ours ------------------------------------------------------------------------------------------------


@pytest.mark.row(37)
@pytest.mark.parametrize("stage", ["credentials", "admits", "receive", "metrics", "answer"])
def test_an_exception_anywhere_is_retryable(
    sending: Sending, stage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """503 or UNAVAILABLE, never 500, UNKNOWN or INTERNAL; the next request is served, and no payload is logged."""

    def fail(*_: object, **__: object) -> Any:
        raise ValueError("canary-4711")

    credentials = tokens(ada="s3cret")
    client, intake = sending(None, credentials)
    kind = "metrics" if stage == "metrics" else "traces"
    with monkeypatch.context() as patch:
        if stage == "credentials":
            patch.setattr(credentials, "caller", fail)
        elif stage == "admits":
            intake.admitting = fail
        elif stage == "receive":
            intake.answer = ValueError("canary-4711")
        elif stage == "metrics":
            patch.setattr("otel_posthog.gateway.receivers.stray_metrics.answer", fail)
        else:
            patch.setattr("otel_posthog.gateway.receivers.answers.success", fail)
        outcome = client.send(kind, b"x", token="s3cret")
        assert (outcome.code, outcome.retry) == ("UNAVAILABLE", 1)
    intake.answer, intake.admitting = OK, lambda _: True
    assert client.send("traces", b"x", token="s3cret") == Outcome("OK")
    assert "internal error" in caplog.text
    assert "canary-4711" not in caplog.text


@pytest.mark.row(37)
def test_no_answer_in_time_is_retryable(sending: Sending) -> None:
    """Whoever waits is told to come again; an answer after that goes nowhere."""
    client, intake = sending(FakeIntake(None), answer_timeout=0.2)
    assert client.send("traces", b"x") == Outcome("UNAVAILABLE", "try again later", retry=1)
    intake.unanswered[0](OK)
    intake.answer = OK
    assert client.send("traces", b"x") == Outcome("OK")


def test_without_room_nothing_is_read(sending: Sending) -> None:
    """The intake is asked before it is given anything."""
    client, intake = sending()
    intake.admitting = lambda _: False
    outcome = client.send("traces", b"x" * 5000)
    assert (outcome.code, outcome.retry, intake.seen) == ("UNAVAILABLE", 1, [])
    intake.admitting = lambda _: True
    assert client.send("traces", b"x") == Outcome("OK")


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.row(28)
@pytest.mark.parametrize("limit", [100_000, 64 * MIB])
def test_the_limit_is_exact(sending: Sending, limit: int) -> None:
    """At it a request is taken, one byte above refused for good; neighbours are unharmed."""
    client, intake = sending(max_body=limit)
    assert client.send("traces", b"\0" * limit) == Outcome("OK")
    refused = client.send("traces", b"\0" * (limit + 1))
    assert (refused.code, refused.retry) == ("RESOURCE_EXHAUSTED", None)
    assert client.send("traces", b"\0") == Outcome("OK")
    assert [len(inbound.body) for inbound in intake.seen] == [limit, 1]


@pytest.mark.row(28)
def test_inflated_sizes_are_the_intakes_limit(sending: Sending) -> None:
    """What is small enough compressed goes on as it is: it is inflated in one place, under one limit."""
    client, intake = sending(max_body=100_000)
    assert client.send("traces", b"\0" * 10 * MIB, compress=True) == Outcome("OK")
    assert len(intake.seen[0].body) < 100_000


# --- who may send --------------------------------------------------------------------------------------------------


@pytest.mark.row(39)
@pytest.mark.parametrize("token", [None, "wrong", "s3cret!", "s3cre", "S3CRET", "s3cret s3cret", "x" * 9000])
def test_without_a_good_token_nothing_is_read(
    sending: Sending, token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Not retryable, without a reason, and before the body; no token is in any log line."""
    caplog.set_level(logging.DEBUG)
    client, intake = sending(None, tokens(ada="s3cret"))
    refused = client.send("traces", b"\x1f\x8b" * 5000, token=token)
    assert refused == Outcome("UNAUTHENTICATED", "unauthenticated")
    assert (intake.seen, intake.asked) == ([], [])
    assert "s3cre" not in caplog.text
    assert client.send("traces", b"x", token="s3cret") == Outcome("OK")


@pytest.mark.row(39)
def test_each_token_has_its_caller(sending: Sending) -> None:
    """Several are good at a time."""
    client, intake = sending(None, tokens(ada="one", bob="two", eve="three"))
    for token in ("two", "three", "one"):
        client.send("traces", b"x", token=token)
    assert [inbound.caller for inbound in intake.seen] == ["bob", "eve", "ada"]


@pytest.mark.row(39)
def test_a_rotation_under_load_loses_nothing(sending: Sending, tmp_path: Any) -> None:
    """Old and new are good together while senders change over; then the old one is not."""
    file = tmp_path / "tokens"
    write(file, "old\n")
    credentials = Credentials([TokenSource("ada", file=file)])
    client, _ = sending(None, credentials)
    current, stop = ["old"], threading.Event()
    outcomes: list[Outcome] = []

    def load() -> None:
        while not stop.is_set():
            outcomes.append(client.send("traces", b"x", token=current[0]))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for text, token in (("old\nnew\n", "new"), ("# changed over\nnew\n", "new")):
        write(file, text)
        credentials.reload()
        enough = len(outcomes) + 20
        current[0] = token
        while len(outcomes) < enough and any(thread.is_alive() for thread in threads):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    assert client.send("traces", b"x", token="old").code == "UNAUTHENTICATED"
    # Whoever read the old token before it went may have shown it after that: senders change first, then the file.
    assert {outcome.code for outcome in outcomes} == {"OK"}


# --- metrics -------------------------------------------------------------------------------------------------------


def some_metrics() -> ExportMetricsServiceRequest:
    """Five data points of three kinds, and a metric without any."""
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for number in (1, 2):
        metrics.add(name="up").gauge.data_points.add(as_int=number)
    total = metrics.add(name="total").sum
    total.data_points.add(as_int=1)
    total.data_points.add(as_int=2)
    metrics.add(name="took").histogram.data_points.add(count=1)
    metrics.add(name="nothing")
    return request


@pytest.mark.parametrize("compress", [False, True])
def test_metrics_are_rejected_as_a_partial_success(
    sending: Sending, compress: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """All their points, counted; said in the answer and in the log, and never handed on."""
    client, intake = sending()
    message = some_metrics()
    body = MessageToJson(message).encode() if client.name == "json" else message.SerializeToString()
    assert client.send("metrics", body, compress=compress) == Outcome("OK", MESSAGE, rejected=5)
    assert intake.seen == []
    assert "somebody sends metrics" in caplog.text
    assert client.rig.books.count("receiver_requests", kind="metrics", transport=client.transport) == 1


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xff\xff", b"{", b'{"resourceMetrics": 1}', b"[" * 5000, b"\x1f\x8b\x00", b"\0" * 5 * MIB]
)
def test_metrics_that_cannot_be_counted_are_a_warning(sending: Sending, body: bytes) -> None:
    """The answer is the same, less the count."""
    client, _ = sending()
    assert client.send("metrics", body) == Outcome("OK", MESSAGE, rejected=0)


# --- anything ------------------------------------------------------------------------------------------------------


@pytest.mark.row(35)
def test_any_bytes_reach_the_intake_as_they_are(sending: Sending) -> None:
    """Nothing in a body is looked at on the way."""
    client, intake = sending()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=2000), st.sampled_from(["traces", "logs"]))
    def check(body: bytes, kind: str) -> None:
        assert client.send(kind, body) == Outcome("OK")
        assert (intake.seen[-1].kind, intake.seen[-1].body) == (kind, body)

    check()


# --- the end -------------------------------------------------------------------------------------------------------


def test_what_has_begun_is_finished(sending: Sending) -> None:
    """A request that waits for its answer gets it after `stop_accepting`, and `stop` waits for it."""
    client, intake = sending(FakeIntake(None))
    heard: list[Outcome] = []
    sender = threading.Thread(target=lambda: heard.append(client.send("traces", b"x")))
    sender.start()
    assert intake.arrived.acquire(timeout=60)
    receivers = client.rig.receivers
    receivers.stop_accepting()
    stopper = threading.Thread(target=receivers.stop, args=(20.0,))
    stopper.start()
    intake.unanswered[0](Answer(AnswerKind.OK, rejected=1, message="late but heard"))
    sender.join()
    stopper.join()
    assert heard == [Outcome("OK", "late but heard", rejected=1)]


def test_an_answer_that_never_comes_holds_nobody_up(sending: Sending) -> None:
    """`stop` ends after its time; the client may come again elsewhere."""
    client, intake = sending(FakeIntake(None))
    heard: list[object] = []

    def send() -> None:
        try:
            heard.append(client.send("traces", b"x").code)
        except ConnectionError:
            heard.append("UNAVAILABLE")

    sender = threading.Thread(target=send)
    sender.start()
    assert intake.arrived.acquire(timeout=60)
    client.rig.receivers.stop(0.05)
    sender.join(60)
    # A Collector comes again after each of them (OTLP specification, retryable codes).
    assert heard[0] in {"UNAVAILABLE", "CANCELLED"}


def test_stopping_twice_is_fine(sending: Sending) -> None:
    """And so is stopping what never got a request."""
    client, intake = sending()
    for _ in range(2):
        client.rig.receivers.stop_accepting()
        client.rig.receivers.stop(1.0)
        try:
            heard = client.send("traces", b"x").code
        except ConnectionRefusedError:
            heard = "UNAVAILABLE"
        assert (heard, intake.seen) == ("UNAVAILABLE", [])
