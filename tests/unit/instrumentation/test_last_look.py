"""The last look at a request: every hop over `http.client` is seen, by whichever client, and all is put back."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import urllib3
from opentelemetry import propagate

from otel_posthog.config.settings import IdentityConfig
from otel_posthog.instrumentation import last_look
from otel_posthog.instrumentation.patches import Patches
from otel_posthog.instrumentation.propagation import Propagation
from otel_posthog.instrumentation.targets import Targets, _brokers, _keep, _target_of
from otel_posthog.lane.departing import Departing
from otel_posthog.observe import Guard

SENT = {"Baggage": "posthog.distinct_id=u1,tier=gold", "uberctx-posthog.groups": "company=acme", "x": "y"}


class Server(ThreadingHTTPServer):
    """Redirects `/to/HOST`, to itself by another name; keeps the headers of each hop."""

    def __init__(self) -> None:
        self.hops: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        self.server.hops.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(307 if self.path.startswith("/to/") else 204)
        if self.path.startswith("/to/"):
            self.send_header("Location", f"http://{self.path[4:]}:{self.server.server_address[1]}/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """On loopback: `127.0.0.1` is our own, `localhost` is not."""
    running = Server()
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def propagation() -> Iterator[Propagation]:
    """Of an app whose own hosts are internal, `localhost` excepted."""
    config = IdentityConfig(baggage_hosts=("internal", "!localhost"))
    edge: Any = SimpleNamespace()
    made = Propagation(lambda: Departing(edge, config), Guard())
    made.attach()
    yield made
    made.detach()


def by_http_client(url: str) -> None:
    """Through a proxy: the address of the request line counts, and not the connection's."""
    port = int(url.split("/")[2].partition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "http://127.0.0.1/", headers=SENT)
    connection.getresponse().read()
    connection.request("GET", "http://localhost/", headers={name.encode(): v.encode() for name, v in SENT.items()})
    connection.getresponse().read()
    connection.close()


def by_requests(url: str) -> None:
    """Its redirects are its own."""
    with requests.Session() as session:
        session.get(url, headers=SENT, timeout=60)


def by_urllib(url: str) -> None:
    """The standard library's opener."""
    urllib.request.urlopen(urllib.request.Request(url, headers=SENT), timeout=60).close()


def by_urllib3(url: str) -> None:
    """Its pools' manager."""
    with urllib3.PoolManager() as manager:
        manager.request("GET", url, headers=SENT)


@pytest.mark.parametrize("by", [by_http_client, by_requests, by_urllib, by_urllib3])
def test_both_hops(server: Server, propagation: Propagation, by: Any) -> None:
    """The first hop to our own has all, the second to a foreign host has what names nobody; afterwards all have all."""
    url = f"http://127.0.0.1:{server.server_address[1]}/to/localhost"
    by(url)
    own, foreign = server.hops
    assert (own["baggage"], own["uberctx-posthog.groups"], own["x"]) == (SENT["Baggage"], "company=acme", "y")
    assert (foreign["baggage"], foreign.get("uberctx-posthog.groups"), foreign["x"]) == ("tier=gold", None, "y")
    propagation.detach()
    by(url)
    assert server.hops[3]["baggage"] == SENT["Baggage"]


def test_a_tunnel_goes_to_its_end() -> None:
    """Where a proxy is asked for a tunnel, the host behind it counts."""
    asked: list[str] = []
    patches = Patches()
    last_look.watch(patches, lambda _, value, target: asked.append(target) or value, pytest.fail)
    try:
        connection = http.client.HTTPSConnection("proxy.internal", 3128)
        connection.set_tunnel("api.example.com", 443)
        connection.putrequest("GET", "/")
        connection.putheader("baggage", "a=b")
    finally:
        patches.undo()
    assert asked == ["api.example.com:443"]


def test_a_connection_that_does_not_say_where_to(server: Server) -> None:
    """It counts as foreign, and is counted; header names and values of every type go on as they came."""
    failures: list[Exception] = []
    patches = Patches()
    departing = Departing(SimpleNamespace(), IdentityConfig())  # type: ignore[arg-type]
    last_look.watch(patches, departing.leaving, failures.append)
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    try:
        connection.connect()
        del connection.host
        connection.putrequest("GET", "/", skip_host=True)
        connection.putheader(bytearray(b"baggage"), b"posthog.x=y,tier=gold", "user.id=u1")
        connection.putheader("X-Number", 7)
        connection.endheaders()
        assert connection.getresponse().status == 204
    finally:
        patches.undo()
        connection.close()
    assert server.hops == [{"accept-encoding": "identity", "baggage": "tier=gold", "x-number": "7"}]
    assert [type(failure) for failure in failures] == [AttributeError]


def test_everything_is_put_back(propagation: Propagation) -> None:
    """The very functions that were there before; nothing of ours is left."""
    ours = vars(http.client.HTTPConnection)["putheader"]
    propagation.attach()
    assert vars(http.client.HTTPConnection)["putheader"] is ours
    propagation.detach()
    assert http.client.HTTPConnection.putheader.__module__ == "http.client"
    assert http.client.HTTPConnection.putrequest.__module__ == "http.client"
    assert "inject" not in vars(propagate.get_global_textmap())


def test_a_failure_costs_the_header_and_not_the_request(server: Server) -> None:
    """Where nobody could look, no baggage leaves, and the request does."""

    def broken() -> Departing:
        raise RuntimeError("broken")

    class Counting(Guard):
        failures = 0

        def failed(self, where: str, error: BaseException) -> None:
            self.failures += 1

    guard = Counting()
    propagation = Propagation(broken, guard)
    propagation.attach()
    try:
        by_urllib(f"http://127.0.0.1:{server.server_address[1]}/")
    finally:
        propagation.detach()
    ((hop),) = server.hops
    assert ("baggage" in hop, "uberctx-posthog.groups" in hop, hop["x"], guard.failures) == (False, False, "y", 2)


def test_a_module_that_is_not_as_we_know_it() -> None:
    """What another version has renamed is left alone, and counted."""
    failures: list[Exception] = []
    last_look.when_imported("http.client", Patches(), lambda module: module.gone, failures.append)
    assert [type(failure) for failure in failures] == [AttributeError]


def test_an_interceptor_of_two_channels() -> None:
    """It says where its calls go only as long as that is one place."""
    interceptor: Any = SimpleNamespace()
    _keep(interceptor, b"orders:1")
    _keep(interceptor, "dns:///orders:1")
    assert interceptor._otel_posthog_targets == ("orders:1",)
    _keep(interceptor, "api.example.com:1")
    assert interceptor._otel_posthog_targets == ()
    _keep(interceptor, "orders:1")
    assert interceptor._otel_posthog_targets == ()


def test_a_channel_under_the_interceptors_of_others() -> None:
    """The address is at the bottom; where there is none, nothing is known."""
    bottom = SimpleNamespace(target=lambda: b"orders:1")
    assert _target_of(SimpleNamespace(_channel=SimpleNamespace(_channel=bottom))) == b"orders:1"
    assert _target_of(SimpleNamespace()) is None


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"bootstrap_servers": ["a:1", "b:1"]}, ("a:1", "b:1")),
        ({"bootstrap_servers": "a:1"}, ("a:1",)),
        ({"bootstrap.servers": "a:1,b:1"}, ("a:1", "b:1")),
        ({"metadata.broker.list": "a:1"}, ("a:1",)),
        ({}, ()),
        (None, ()),
    ],
)
def test_the_brokers_of_a_producer(config: Any, found: tuple[str, ...]) -> None:
    """By each library's name for them; what was kept when it was made comes first."""
    assert _brokers(SimpleNamespace(config=config)) == found
    assert _brokers(SimpleNamespace(config=config, _otel_posthog_targets=("c:1",))) == ("c:1",)


def test_a_library_of_another_shape() -> None:
    """The app's own calls go on, failures are counted, and nobody knows where the calls go."""
    failures: list[Exception] = []
    targets, patches = Targets(failures.append), Patches()

    class Channel:
        def __init__(self, target: str) -> None:
            self.target = target

    class Instrumentor:
        @staticmethod
        def wrap_produce(function: Any, producer: Any, tracer: Any, args: Any, kwargs: Any) -> Any:
            return targets.take(), function(*args, **kwargs)

    class Producer:
        __slots__ = ()

        def __init__(self, conf: object) -> None:
            """Keeps nothing."""

    targets._grpc_channel(SimpleNamespace(_InterceptorChannel=Channel), patches)
    targets._confluent(
        SimpleNamespace(AutoInstrumentedProducer=Producer, ConfluentKafkaInstrumentor=Instrumentor), patches
    )
    assert Channel("orders:1").target == "orders:1"
    producer = Producer({"bootstrap.servers": "orders:1"})
    assert Instrumentor.wrap_produce(str, producer, None, (7,), {}) == ((), "7")
    patches.undo()
    assert [type(failure) for failure in failures] == [AttributeError, AttributeError]


def test_a_target_is_said_once() -> None:
    """What one call went to says nothing of the next."""
    targets = Targets(pytest.fail)
    targets._here.set(("orders:1",))
    assert (targets.take(), targets.take()) == (("orders:1",), ())
