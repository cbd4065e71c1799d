"""Several workers as one: metrics side by side, one readiness, one stream of events."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_posthog.gateway.admin import aggregate
from otel_posthog.gateway.admin.aggregate import WorkersDoor, WorkersSources
from otel_posthog.gateway.admin.door import WorkerDoor
from otel_posthog.gateway.admin.server import AdminServer
from otel_posthog.gateway.admin.sources import Phase, Reason

Serve = Callable[..., AdminServer]
HEALTH_TIMEOUT = aggregate._HEALTH_TIMEOUT


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes no silent worker of one that answers late."""
    monkeypatch.setattr(aggregate, "_HEALTH_TIMEOUT", 60.0)


class Supervised:
    """Two gateways behind one door."""

    def __init__(self, make: Callable[[], Any], serve: Serve, token: str = "") -> None:
        self.phase = Phase.SERVING
        self.workers = [make(), make()]
        self.servers = [
            serve(WorkerDoor(gateway.sources(worker=number)), token=token)
            for number, gateway in enumerate(self.workers)
        ]
        self.ports = {number: server.port for number, server in enumerate(self.servers)}
        self.restarts = {0: 0, 1: 2}
        sources = WorkersSources(lambda: self.phase, lambda: self.ports, token, lambda: self.restarts)
        self.door = serve(WorkersDoor(sources, heartbeat=0.05), token=token)


@pytest.fixture
def make(gateway: Any) -> Callable[[], Any]:
    """Makes gateways with the project `shop`."""

    def made() -> Any:
        one = type(gateway)()
        one.project("shop")
        return one

    return made


def ask(server: AdminServer, path: str, **headers: str) -> tuple[int, str]:
    """Status and body."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def reasons(server: AdminServer) -> list[tuple[str, str]]:
    """Check and subject of each reason."""
    found = json.loads(ask(server, "/readyz?verbose")[1])["reasons"]
    return [(each["check"], each.get("subject", "")) for each in found]


def samples(server: AdminServer, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Value by labels."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(ask(server, "/metrics")[1])
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def test_metrics_stand_side_by_side(make: Any, serve: Serve, make_signal: Any) -> None:
    """Each sample names its worker, so that sums are sums of all; each family is there once."""
    both = Supervised(make, serve)
    for count, gateway in zip((1, 2), both.workers, strict=True):
        gateway.projects["shop"].bridge.accept([make_signal("order")] * count)

    assert samples(both.door, "otel_posthog_signals_received_total") == {
        (("project", "shop"), ("worker", "0")): 1,
        (("project", "shop"), ("worker", "1")): 2,
    }
    assert samples(both.door, "otel_posthog_worker_up") == {(("worker", "0"),): 1, (("worker", "1"),): 1}
    assert samples(both.door, "otel_posthog_worker_restarts_total") == {(("worker", "0"),): 0, (("worker", "1"),): 2}
    types = [line for line in ask(both.door, "/metrics")[1].splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


def test_a_worker_that_does_not_answer_is_shown_as_down(make: Any, serve: Serve) -> None:
    """One that starts (no port yet) and one that hung up; the scrape succeeds without them."""
    both = Supervised(make, serve)
    both.servers[0].close()
    both.ports[2] = 0

    assert samples(both.door, "otel_posthog_worker_up") == {
        (("worker", "0"),): 0,
        (("worker", "1"),): 1,
        (("worker", "2"),): 0,
    }


def test_ready_while_one_worker_serves(make: Any, serve: Serve) -> None:
    """A worker that starts anew or recovers takes no connections; the others do."""
    both = Supervised(make, serve)
    assert ask(both.door, "/readyz") == (200, "ok\n")

    both.workers[0].phase = Phase.RECOVERING
    assert reasons(both.door) == []
    both.servers[0].close()
    assert reasons(both.door) == []
    both.workers[1].phase = Phase.RECOVERING
    assert reasons(both.door) == [("workers", "worker 0"), ("phase", "worker 1")]
    assert ask(both.door, "/readyz") == (503, "not ready\n")


def test_what_one_worker_finds_wrong_is_wrong_for_all(make: Any, serve: Serve) -> None:
    """A revoked key, a disk: load balancers choose gateways, not workers."""
    both = Supervised(make, serve)
    both.workers[1].projects["shop"].delivery.blocked = "HTTP 401"
    both.workers[1].reasons = (Reason("reload", "no"),)

    assert reasons(both.door) == [("delivery", "worker 1, shop"), ("reload", "worker 1")]


def test_a_worker_that_hangs_does_not_end_the_others(make: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubelet waits a second: health is answered before that, whatever one worker does."""
    assert HEALTH_TIMEOUT < 1
    monkeypatch.setattr(aggregate, "_HEALTH_TIMEOUT", 1.0)
    both = Supervised(make, serve)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        both.ports[1] = silent.getsockname()[1]

        assert ask(both.door, "/livez") == (200, "ok\n")
        assert ask(both.door, "/readyz") == (200, "ok\n")
        both.workers[0].phase = Phase.RECOVERING
        assert reasons(both.door) == [("phase", "worker 0"), ("workers", "worker 1")]


def test_the_supervisors_life_comes_first(make: Any, serve: Serve) -> None:
    """It starts or stops as a whole; a stop is no reason to kill it."""
    both = Supervised(make, serve)
    both.workers[0].dead = ("sender",)
    assert ask(both.door, "/livez") == (503, "not alive\n")

    both.phase = Phase.STOPPING
    assert reasons(both.door) == [("phase", "")]
    assert ask(both.door, "/livez") == (200, "ok\n")


@contextlib.contextmanager
def looking(server: AdminServer, path: str, **headers: str) -> Iterator[Iterator[Any]]:
    """Documents of a `/tail`."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        yield (json.loads(line) for line in iter(answer.readline, b"") if line.strip())


def wait_until(condition: Callable[[], bool]) -> None:
    """Asks until it holds."""
    import time

    deadline, pause = time.monotonic() + 60, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.005)


def test_events_of_all_workers(make: Any, serve: Serve, make_signal: Any) -> None:
    """One stream, filtered where the events are, and also those of a worker that starts meanwhile."""
    both = Supervised(make, serve)
    late = make()
    with looking(both.door, "/tail?event=order&drops=1") as lines:
        wait_until(lambda: all(gateway.tail.viewers == 1 for gateway in both.workers))
        for number, gateway in enumerate(both.workers):
            gateway.projects["shop"].bridge.accept([make_signal("visit"), make_signal("order", worker=number)])
        assert {next(lines)["properties"]["worker"], next(lines)["properties"]["worker"]} == {0, 1}

        both.ports[2] = serve(WorkerDoor(late.sources(worker=2))).port
        wait_until(lambda: late.tail.viewers == 1)
        late.projects["shop"].bridge.accept([make_signal("order", worker=2)])
        assert next(lines)["properties"] == {"worker": 2}
    wait_until(lambda: not any(gateway.tail.viewers for gateway in (*both.workers, late)))


def test_the_token_goes_along(make: Any, serve: Serve, make_signal: Any) -> None:
    """Workers' doors ask for the same token, and the supervisor shows it."""
    both = Supervised(make, serve, token="s3cret")
    assert ask(both.door, "/tail")[0] == 401
    assert ask(both.servers[0], "/tail")[0] == 401

    with looking(both.door, "/tail", Authorization="Bearer s3cret") as lines:
        wait_until(lambda: both.workers[0].tail.viewers == 1)
        both.workers[0].projects["shop"].bridge.accept([make_signal("order")])
        assert next(lines)["event"] == "order"


def test_viewers_are_limited_for_all_workers_together(make: Any, serve: Serve) -> None:
    """As with one worker."""
    both = Supervised(make, serve)
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(looking(both.door, "/tail"))
        assert ask(both.door, "/tail") == (503, "too many look already\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n[1]{} \xff",
        b"HTTP/1.1 500 no\r\n\r\n{}",
    ],
)
def test_whatever_a_worker_answers(make: Any, serve: Serve, answer: bytes) -> None:
    """What is no answer of ours counts as none, and the others are shown."""
    both = Supervised(make, serve)
    with socket.create_server(("127.0.0.1", 0)) as odd:
        both.ports[1] = odd.getsockname()[1]

        def serve_oddly() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = odd.accept()
                    with caller:
                        caller.recv(4096)
                        caller.sendall(answer)

        thread = threading.Thread(target=serve_oddly)
        thread.start()
        try:
            assert ask(both.door, "/readyz")[0] == 200
            assert samples(both.door, "otel_posthog_worker_up") == {(("worker", "0"),): 1, (("worker", "1"),): 0}
        finally:
            odd.shutdown(socket.SHUT_RDWR)
            thread.join(60)
