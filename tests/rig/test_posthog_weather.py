"""PostHog in bad weather behind a real gateway process: acknowledgements go on, nothing is lost, nothing doubled."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme

from otel_posthog.cli.main import main
from otel_posthog.emulator import Emulator, Fault, Limits
from tests.fixtures.gateway import GatewayProcess
from tests.fixtures.ports import free_port
from tests.rig.oracle import Sender, check, delivered, memory, metric, request, until
from tests.rig.servers import REFUSE, UNNAMED, UPPER_CASE, Opinionated, RawServer, TlsFront, black_hole, endless

pytestmark = pytest.mark.timeout(240)

Start = Callable[..., tuple[Emulator, GatewayProcess, Sender]]


BESIDE = "token-of-beside-0123456789"


def beside(host: str) -> dict[str, Any]:
    """Options of a gateway with a second project at `host`, for callers with the token `BESIDE`."""
    project = {"host": host, "key": {"env": "TEST_POSTHOG_KEY"}, "self_hosted": True, "match": {"tokens": ["beside"]}}
    return {
        "settings": {
            "tokens": {"beside": {"env": "TEST_TOKEN_BESIDE"}},
            "projects": {"beside": {**project, **quick()}},
        },
        "env": {"TEST_TOKEN_BESIDE": BESIDE},
    }


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Start]:
    """Starts a local PostHog, a gateway and a sender; ends what it started.

    Where `host` is given PostHog is there, for the gateway, and the local one is its second project's.
    """
    started: list[Any] = []

    def start(
        *faults: Fault, seed: int = 0, limits: Limits | None = None, host: str = "", **options: Any
    ) -> tuple[Emulator, GatewayProcess, Sender]:
        # Its own port: while it is away nobody else takes it, nor does a connection of the gateway's.
        posthog = Emulator(limits=limits, port=free_port()).__enter__()
        started.append(posthog)
        posthog.script(*faults, seed=seed)
        more = beside(posthog.url) if host else {}
        gateway = GatewayProcess(tmp_path, host or posthog.url, **more, **options)
        started.append(gateway)
        gateway.start()
        return posthog, gateway, Sender(gateway.http_url, gateway.token)

    yield start
    for one in reversed(started):
        one.__exit__(None, None, None)


def quick(**more: Any) -> dict[str, Any]:
    """Delivery with short pauses."""
    return {"delivery": {"flush_interval": 0.02, "retry_initial": 0.02, "retry_max": 0.2, "timeout": 1, **more}}


@pytest.mark.row(1)
def test_an_outage(rig: Start) -> None:
    """While PostHog answers 503 callers notice nothing and the spool grows; afterwards everything is delivered."""
    posthog, gateway, sender = rig(Fault("status", status=503), project=quick())
    sender.send_all(range(400))
    assert sender.answers == {200: 20}
    assert metric(gateway, "otel_posthog_spool_records") == 20
    assert delivered(posthog) == set()
    posthog.script()
    check(posthog, sender.acknowledged)
    assert until(lambda: metric(gateway, "otel_posthog_spool_records") == 0)


@pytest.mark.row(2)
def test_an_outage_without_a_spool(rig: Start) -> None:
    """With `acknowledge: forward` callers are told to come again, with a pause that a Collector keeps."""
    posthog, _, sender = rig(
        Fault("status", status=503),
        settings={"acknowledge": "forward", "limits": {"answer_timeout": 0.5}},
        project=quick(),
    )
    assert not sender.send(range(20), tries=3)
    assert set(sender.answers) == {503}
    assert all(pause.isdigit() and 0 < int(pause) <= 30 for pause in sender.retry_after)
    posthog.script()
    sender.send_all(range(100))
    check(posthog, sender.acknowledged)


@pytest.mark.row(3)
@pytest.mark.parametrize("said", ["1", "Thu, 01 Jan 1970 00:00:00 GMT", "garbage", "-5"])
def test_throttled(said: str, rig: Start) -> None:
    """Whatever `Retry-After` says, the gateway waits and goes on; it never runs against the wall."""
    posthog, _, sender = rig(Fault("status", status=429, retry_after=said, count=3), project=quick())
    sender.send_all(range(100))
    check(posthog, sender.acknowledged)
    assert sum(fault["applied"] for fault in posthog.faults()) == 3


@pytest.mark.row(3)
def test_a_pause_of_a_day_is_half_a_minute(rig: Start) -> None:
    """`Retry-After` of a day, in seconds and as a date (two projects, so that both wait at once): all soon arrives."""
    date = formatdate(time.time() + 86_400, usegmt=True)
    with Emulator() as dates:
        dates.script(Fault("status", status=429, retry_after=date))
        posthog, gateway, sender = rig(
            Fault("status", status=429, retry_after="86400"), **beside(dates.url), project=quick()
        )
        of_dates = Sender(gateway.http_url, BESIDE)
        for one in (sender, of_dates):
            one.send_all(range(100))
        for one in (posthog, dates):
            assert until(lambda one=one: one.faults()[0]["applied"] > 0)
            applied = one.faults()[0]["applied"]
            assert applied <= 8, "it runs against the wall"
            one.script()
        assert gateway.ready()
        check(posthog, sender.acknowledged, timeout=120)
        check(dates, of_dates.acknowledged, timeout=120)


@pytest.mark.row(4)
@pytest.mark.parametrize("status", [401, 403])
def test_a_revoked_key(status: int, rig: Start) -> None:
    """Callers never see PostHog's 401; data is kept, readiness is red and names the project; mended, all is there."""
    posthog, gateway, sender = rig(Fault("status", status=status), project=quick())
    sender.send_all(range(200))
    assert set(sender.answers) == {200}
    assert until(lambda: gateway.get("/readyz")[0] == 503)
    assert "shop" in gateway.get("/readyz?verbose")[1]
    posthog.script()
    check(posthog, sender.acknowledged)
    assert until(gateway.ready)


@pytest.mark.row(5)
@pytest.mark.parametrize(
    ("wire", "limits", "reason"),
    [
        ("v0", Limits(event=20_000), "rejected"),
        ("v0", Limits(v0_batch=6_000, v0_decompressed_factor=5), "rejected"),
        ("v1", Limits(v1_decompressed=30_000), "rejected"),
        ("v1", Limits(event=20_000), "dropped_by_server"),
    ],
    ids=["v0, an event", "v0, a batch", "v1, a batch", "v1, an event"],
)
def test_one_event_is_too_large(
    wire: str, limits: Limits, reason: str, rig: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """PostHog refuses by size, with 413 or a verdict: the large one alone is a dead letter, the others arrive once."""
    posthog, gateway, sender = rig(limits=limits, project=quick(wire=wire))
    large = 37
    body = request([number for number in range(64) if number != large]) + request([large], padding=50_000)
    assert sender.send(range(64), body=body)
    check(posthog, sender.acknowledged, without=[large])
    assert until(lambda: metric(gateway, "otel_posthog_dead_letters_kept") == 1)
    assert metric(gateway, "otel_posthog_dead_letters_kept", reason=reason) == 1
    assert until(lambda: metric(gateway, "otel_posthog_spool_records") == 0)
    assert (
        metric(gateway, "otel_posthog_events_delivered_total"),
        metric(gateway, "otel_posthog_events_dead_lettered_total"),
        metric(gateway, "otel_posthog_events_lost_total"),
    ) == (63, 1, 0)
    if reason == "rejected":
        refused = Counter(refusal["status"] for refusal in posthog.refusals())
        # Halved until it is alone, at most six times; no half without it is refused.
        assert set(refused) == {413}
        assert 1 <= refused[413] <= 7
    assert main(["spool", "list", "--spool", str(gateway.spool), "--letters", "--json"]) == 0
    [letter] = json.loads(capsys.readouterr().out)["letters"]
    assert (letter["reason"], letter["project"]) == (reason, "shop")


@pytest.mark.row(6)
@pytest.mark.parametrize("wire", ["v0", "v1"])
def test_one_event_of_a_hundred_is_refused(wire: str, rig: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """400 for every batch with it: they are halved until it is alone; it is a dead letter, the 99 arrive, once."""
    guilty = 42

    def opinion(event: dict[str, Any], _: int) -> tuple[Any, bool]:
        return (REFUSE, False) if event["properties"]["number"] == guilty else ({"result": "ok"}, True)

    with Emulator() as store, Opinionated(store, opinion) as posthog:
        _, gateway, sender = rig(host=posthog.url, project=quick(wire=wire))
        sender.send_all(range(100), together=100)
        check(store, sender.acknowledged, without=[guilty])
        assert until(lambda: metric(gateway, "otel_posthog_spool_records") == 0)
        sizes = posthog.refused
        assert sizes[-1] == 1
        assert all(after in (before // 2, before - before // 2) for before, after in pairwise(sizes))
    assert main(["spool", "list", "--spool", str(gateway.spool), "--letters", "--json"]) == 0
    [letter] = json.loads(capsys.readouterr().out)["letters"]
    assert (letter["reason"], letter["project"]) == ("rejected", "shop")


@pytest.mark.row(6)
def test_one_event_of_a_hundred_is_dropped(rig: Start) -> None:
    """PostHog drops one event for good: it is a dead letter with its reason, the 99 arrive."""
    posthog, gateway, sender = rig(
        Fault("verdict", event="unwanted", result="drop", details="event_name_not_allowed"), project=quick()
    )
    assert sender.send(range(100), body=request(range(99)) + request([99], event="unwanted"))
    check(posthog, sender.acknowledged, without=[99])
    assert until(lambda: metric(gateway, "otel_posthog_dead_letters_kept", reason="dropped_by_server") == 1), (
        gateway.get("/metrics")[1]
    )


@pytest.mark.row(7)
def test_lost_answers(rig: Start) -> None:
    """PostHog stores and cuts the connection: the same uuids and times come again, and are one event each."""
    posthog, _, sender = rig(
        Fault("lose_answer", count=4), Fault("truncate", count=2), Fault("cut", count=2), project=quick()
    )
    sender.send_all(range(300))
    check(posthog, sender.acknowledged)
    assert until(lambda: posthog.stats()["duplicates"] > 0)


@pytest.mark.row(8)
@pytest.mark.parametrize(
    "fault", [Fault("hang", count=3), Fault("drip", bytes_per_second=2, count=2), Fault("delay", delay=0.7, count=3)]
)
def test_a_slow_server(fault: Fault, rig: Start) -> None:
    """It accepts and says nothing, or one byte at a time: each attempt ends in time, and everything arrives."""
    posthog, _, sender = rig(fault, project=quick())
    sender.send_all(range(200))
    assert set(sender.answers) == {200}
    check(posthog, sender.acknowledged)


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GIB = 1 << 30


@pytest.mark.row(8)
@pytest.mark.parametrize(
    ("wire", "start", "again"),
    [
        ("v1", JSON + b"Content-Length: %d\r\n\r\n{" % GIB, b" " * 65_536),
        ("v0", JSON + b"Content-Length: %d\r\n\r\n{" % GIB, b" " * 65_536),
        ("v1", JSON + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"10000\r\n" + b" " * 65_536 + b"\r\n"),
        ("v1", JSON, b"X-Filler: " + b"x" * 1_000 + b"\r\n"),
        ("v1", JSON + b"X-Filler: ", b"x" * 65_536),
    ],
    ids=["v1, 1 GiB", "v0, 1 GiB", "chunks without end", "head without end", "line without end"],
)
def test_an_answer_without_end(wire: str, start: bytes, again: bytes, rig: Start) -> None:
    """Memory stays where it was, other projects go on, and when PostHog is itself again everything arrives, once."""
    with RawServer(endless(start, again), port=free_port()) as flood:
        well, gateway, sender = rig(host=f"http://127.0.0.1:{flood.port}", project=quick(wire=wire))
        before = memory(gateway)
        sender.send_all(range(100))
        assert set(sender.answers) == {200}
        others = Sender(gateway.http_url, BESIDE)
        others.send_all(range(100))
        check(well, others.acknowledged)
        assert until(lambda: flood.connections >= 20)
        assert memory(gateway) - before < 64 * 1024
        assert metric(gateway, "otel_posthog_events_delivered_total", project="shop") == 0
    with Emulator(port=flood.port) as posthog:
        check(posthog, sender.acknowledged)
        assert until(gateway.ready)


@pytest.mark.row(9)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("html", count=2),
        Fault("garbage", count=2),
        Fault("verdict", result="retry", count=3),
        Fault("verdict", result="no such verdict", count=2),
        Fault("verdict", result="warning", count=2),
    ],
    ids=["html", "garbage", "retry", "unknown", "warning"],
)
def test_odd_answers(fault: Fault, rig: Start) -> None:
    """Answers that mean nothing, or something new: no crash, no loop, and what can be delivered is."""
    posthog, gateway, sender = rig(fault, project=quick())
    sender.send_all(range(100))
    if fault.result == "no such verdict":
        # It said that it decided; asking again for ever would be worse than believing it.
        assert until(lambda: metric(gateway, "otel_posthog_spool_records") == 0)
    else:
        check(posthog, sender.acknowledged)
    assert until(lambda: metric(gateway, "otel_posthog_spool_records") == 0)


OPINIONS: Sequence[tuple[str, Callable[[int], tuple[Any, bool]], int, str]] = (
    # what is said the nth time an event comes, and whether it is stored; how often it comes; what it ends as
    ("ok", lambda _: ({"result": "ok"}, True), 1, "delivered"),
    ("warning", lambda _: ({"result": "warning", "details": "person_processing_disabled"}, True), 1, "delivered"),
    ("drop", lambda _: ({"result": "drop", "details": "invalid_options"}, False), 1, "dropped_by_server"),
    ("retry, twice", lambda n: ({"result": "retry" if n < 3 else "ok"}, n >= 3), 3, "delivered"),
    ("not named, but stored", lambda n: (UNNAMED if n == 1 else {"result": "ok"}, True), 2, "delivered"),
    ("not named, not stored", lambda n: (UNNAMED, False) if n < 3 else ({"result": "ok"}, True), 3, "delivered"),
    ("never named", lambda _: (UNNAMED, False), 3, "retries_exhausted"),
    ("null", lambda n: (None, False) if n == 1 else ({"result": "ok"}, True), 2, "delivered"),
    ("a new word", lambda _: ({"result": "accepted_in_another_region"}, True), 1, "delivered"),
    ("upper case", lambda _: (UPPER_CASE, True), 1, "delivered"),
)


@pytest.mark.row(9)
def test_a_verdict_for_each(rig: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """All kinds of verdicts in one answer, some events not named, and others that nobody sent: each is dealt with."""

    def of(event: dict[str, Any]) -> int:
        return event["properties"]["number"] % len(OPINIONS)

    def opinion(event: dict[str, Any], times: int) -> tuple[Any, bool]:
        return OPINIONS[of(event)][1](times)

    strangers = {str(uuid.UUID(int=number)): {"result": ("drop", "retry")[number % 2]} for number in range(10)}
    with ExitStack() as stack:
        store = stack.enter_context(Emulator())
        posthog = stack.enter_context(Opinionated(store, opinion, strangers))
        _, gateway, sender = rig(host=posthog.url, project=quick(wire="v1"))
        sender.send_all(range(200), together=100)
        assert until(lambda: metric(gateway, "otel_posthog_spool_records") == 0)
        ends = {number: OPINIONS[number % len(OPINIONS)] for number in range(200)}
        check(store, sender.acknowledged, without=[number for number, end in ends.items() if end[3] != "delivered"])
        assert Counter(posthog.came.values()) == Counter(end[2] for end in ends.values())
    dead = Counter(end[3] for end in ends.values() if end[3] != "delivered")
    assert main(["spool", "list", "--spool", str(gateway.spool), "--json"]) == 0
    letters = json.loads(capsys.readouterr().out)["dead_letters"]
    assert {letter["reason"]: letter["letters"] for letter in letters} == dead
    kinds = ("delivered", "dead_lettered", "lost")
    counts = [metric(gateway, f"otel_posthog_events_{kind}_total", project="shop") for kind in kinds]
    assert counts == [200 - dead.total(), dead.total(), 0]


@pytest.mark.row(10)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_no_way(status: int, rig: Start) -> None:
    """Not followed, so the key goes nowhere else; data is kept, and readiness is red until it is mended."""
    with Emulator() as elsewhere:
        posthog, gateway, sender = rig(
            Fault("redirect", status=status, location=f"{elsewhere.url}/elsewhere"), project=quick()
        )
        sender.send_all(range(100))
        assert until(lambda: gateway.get("/readyz")[0] == 503)
        posthog.script()
        check(posthog, sender.acknowledged)
        assert (elsewhere.events(), elsewhere.refusals()) == ([], [])
        assert until(gateway.ready)


@pytest.mark.row(11)
def test_nobody_there(rig: Start) -> None:
    """PostHog's port is closed: callers are served, cost stays flat, and when it is back all is delivered."""
    posthog, gateway, sender = rig(project=quick())
    port = int(posthog.url.rpartition(":")[2])
    posthog.close()
    sender.send_all(range(300))
    assert set(sender.answers) == {200}
    assert gateway.process is not None
    before = threads_and_files(gateway.process.pid)
    lines = len(gateway.text.splitlines())
    sender.send_all(range(300, 600))
    after = threads_and_files(gateway.process.pid)
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + 8
    assert len(gateway.text.splitlines()) - lines < 10
    with Emulator(port=port) as back:
        check(back, sender.acknowledged)


@pytest.mark.row(11)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("expired", "(certificate has expired): renew it there, or check the clock here"),
        ("another host", "certificate is not valid for 'localhost'.): check the host's name"),
        ("another authority", "(unable to get local issuer certificate): check the CA file"),
    ],
)
def test_a_certificate_that_proves_nothing(wrong: str, said: str, rig: Start, tmp_path: Path) -> None:
    """Nothing is sent, the log says what is wrong with it, and with another certificate everything is delivered."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    a_year_ago = datetime.now(timezone.utc) - timedelta(days=365)
    bad = {
        "expired": lambda: authority.issue_cert("localhost", not_after=a_year_ago + timedelta(days=90)),
        "another host": lambda: authority.issue_cert("posthog.example"),
        "another authority": lambda: trustme.CA().issue_cert("localhost"),
    }[wrong]()
    with Emulator() as store, TlsFront(int(store.url.rpartition(":")[2]), bad.configure_cert) as front:
        _, gateway, sender = rig(host=front.url, project=quick(ca=str(tmp_path / "ca.pem")))
        sender.send_all(range(200))
        assert set(sender.answers) == {200}
        flat(gateway, lambda: front.connections, sender)
        assert "delivery (shop, direct@localhost): the certificate of localhost cannot be verified" in gateway.text
        assert said in gateway.text
        assert store.stats()["received"] == 0
        front.certificate = authority.issue_cert("localhost").configure_cert
        check(store, sender.acknowledged)
        assert until(gateway.ready)


@pytest.mark.row(11)
def test_a_black_hole(rig: Start) -> None:
    """The address takes packets and gives none: each attempt ends by `delivery.timeout`; later all is delivered."""
    with black_hole() as port:
        _, gateway, sender = rig(host=f"http://127.0.0.1:{port}", project=quick(timeout=0.3))
        sender.send_all(range(200))
        assert set(sender.answers) == {200}
        flat(gateway, lambda: int(metric(gateway, "otel_posthog_delivery_retries_total", project="shop")), sender)
        assert "127.0.0.1 did not answer in time" in gateway.text
    with Emulator(port=port) as posthog:
        check(posthog, sender.acknowledged)


RESOLVER = """
import os, socket

_resolve = socket.getaddrinfo

def getaddrinfo(host, *args, **kwargs):
    if host == "posthog.invalid":
        if not os.path.exists(NAMES):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        host = "127.0.0.1"
    return _resolve(host, *args, **kwargs)

socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.row(11)
def test_a_name_that_nobody_knows(rig: Start, tmp_path: Path) -> None:
    """NXDOMAIN (from a resolver put into the gateway's process: the real one asks the network), later an address."""
    names = tmp_path / "names"
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(f"NAMES = {str(names)!r}\n{RESOLVER}", encoding="utf-8")
    with Emulator() as posthog:
        port = posthog.url.rpartition(":")[2]
        gateway = GatewayProcess(
            tmp_path,
            f"http://posthog.invalid:{port}",
            project={**quick(), "allow_http": True},
            env={"PYTHONPATH": str(tmp_path / "python")},
        )
        with gateway:
            sender = Sender(gateway.http_url, gateway.token)
            sender.send_all(range(200))
            assert set(sender.answers) == {200}
            flat(gateway, lambda: int(metric(gateway, "otel_posthog_delivery_retries_total", project="shop")), sender)
            assert "posthog.invalid cannot be resolved to an address" in gateway.text
            names.touch()
            check(posthog, sender.acknowledged)


def flat(gateway: GatewayProcess, attempts: Callable[[], int], sender: Sender) -> None:
    """Many attempts later there are no more threads, files and log lines than after a few, and callers are served.

    Raises:
        AssertionError: There are.
    """
    assert gateway.process is not None
    assert until(lambda: attempts() >= 8)
    threads, files = threads_and_files(gateway.process.pid)
    lines = len(gateway.text.splitlines())
    begun = attempts()
    sender.send_all(range(200, 600))
    assert until(lambda: attempts() >= begun + 40)
    more_threads, more_files = threads_and_files(gateway.process.pid)
    assert more_threads <= threads + 2
    assert more_files <= files + 8
    # One line a minute, however many senders a project has.
    assert len(gateway.text.splitlines()) <= lines + 5


def threads_and_files(pid: int) -> tuple[int, int]:
    """Threads and open files of a process."""
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))
