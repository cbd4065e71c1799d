"""Two real services in a row are one person's request, and a third that is not ours learns nothing of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from dirty_equals import IsPartialDict

from otel_posthog.emulator import Emulator
from tests.attach.processes import TOKEN, Environment, Launch, variables
from tests.attach.receiver import Receiver

_MS = int(time.time() * 1000)
SESSION = f"{_MS >> 16:08x}-{_MS & 0xFFFF:04x}-7c3e-8f00-0123456789ab"
SECRET = "0123456789abcdef0123456789abcdef"
SHARED = {
    "$session_id": SESSION,
    "$groups": {"company": "acme"},
    "$feature/new-checkout": True,
    "$active_feature_flags": ["new-checkout"],
    "plan": "pro",
}


class Foreign:
    """A server that is not ours, and remembers what it was told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        seen = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    """A server on loopback that the services are told is not theirs."""
    made = Foreign()
    yield made
    made.server.shutdown()
    made.server.server_close()


def run_chain(
    where: Environment, launch: Launch, env: Callable[[], dict[str, str]], foreign: Foreign, **headers: str
) -> str:
    """One request to the first service; both end in order. Gives what they printed."""
    common = {
        "FOREIGN": f"http://{foreign.address}",
        "OTEL_POSTHOG_BAGGAGE_HOSTS": f"internal,!{foreign.address}",
        "OTEL_POSTHOG_BAGGAGE_PROPERTIES": "plan",
    }
    words = ["python", "chain_flask.py", "{fd}", "1"]
    orders_env = {**env(), **common, "OTEL_SERVICE_NAME": "orders", "ORDERS": ""}
    orders = launch(where.instrumented(*words), orders_env, serve=True)
    assert orders.socket is not None
    shop_env = {
        **env(),
        **common,
        "OTEL_SERVICE_NAME": "shop",
        "ORDERS": f"http://127.0.0.1:{orders.socket.getsockname()[1]}",
    }
    shop = launch(where.instrumented(*words), shop_env, serve=True)
    status = shop.get("/checkout", {"x-posthog-session-id": SESSION, "baggage": "user.id=mallory", **headers})
    assert (shop.end(), orders.end()) == (0, 0), shop.output + orders.output
    assert status == 200, shop.output
    return shop.output + orders.output


def check_foreign(foreign: Foreign) -> None:
    """Nothing of ours, and nothing that came from upstream, reached the foreign server; the trace did."""
    assert sorted(path for path, _ in foreign.requests) == ["/hook", "/supplier"]
    for _, headers in foreign.requests:
        assert "traceparent" in headers
        assert "baggage" not in headers
        for secret in ("ada", "acme", SESSION, "mallory", "stays here"):
            assert secret not in unquote(str(headers))


@pytest.mark.parametrize("secret", ["", SECRET])
def test_one_person(
    environment: Callable[[str], Environment], launch: Launch, foreign: Foreign, receiver: Receiver, secret: str
) -> None:
    """Person, session, group, flag and the chosen property are the same in both; PostHog sees one person."""
    where = environment("stock")
    with Emulator() as emulator:

        def env() -> dict[str, str]:
            made = variables(receiver, "direct", where)
            made["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{emulator.url}/i"
            if secret:
                made["OTEL_POSTHOG_BAGGAGE_SECRET"] = secret
            return made

        output = run_chain(where, launch, env, foreign)
        events = emulator.events(token=TOKEN)
        people = emulator.persons()
    by_name = {event["event"]: event for event in events}
    assert sorted(by_name) == ["checked out", "order counted", "order placed"], output
    assert {event["distinct_id"] for event in events} == {"ada"}
    for event in events:
        assert event["properties"] == IsPartialDict(SHARED), event["event"]
    assert "secret" not in by_name["order placed"]["properties"]
    assert by_name["checked out"]["properties"]["service_name"] == "shop"
    assert by_name["order placed"]["properties"]["service_name"] == "orders"
    assert len({event["properties"]["$trace_id"] for event in events}) == 1
    assert len(people) == 1
    check_foreign(foreign)


def test_through_a_collector(
    environment: Callable[[str], Environment], launch: Launch, foreign: Foreign, receiver: Receiver
) -> None:
    """In collector mode the finished events say the same."""
    where = environment("stock")
    output = run_chain(where, launch, lambda: variables(receiver, "collector", where), foreign)
    events = receiver.events()
    assert sorted(event.event for event in events) == ["checked out", "order counted", "order placed"], output
    for event in events:
        assert event.distinct_id == "ada"
        assert event.properties == IsPartialDict(SHARED), event.event
    check_foreign(foreign)


def test_spoofed_baggage(
    environment: Callable[[str], Environment], launch: Launch, foreign: Foreign, receiver: Receiver
) -> None:
    """With a secret, what a stranger writes into the header of the second service counts for nothing."""
    where = environment("stock")
    env = variables(
        receiver,
        "direct",
        where,
        OTEL_POSTHOG_BAGGAGE_SECRET=SECRET,
        OTEL_POSTHOG_BAGGAGE_PROPERTIES="plan",
        FOREIGN=f"http://{foreign.address}",
    )
    process = launch(where.instrumented("python", "chain_flask.py", "{fd}", "1"), env, serve=True)
    spoof = (
        "posthog.distinct_id=victim,user.id=victim,posthog.groups=company%3Dvictim,posthog.flags=new-checkout,"
        "posthog.properties=plan%3Dvictim,posthog.signature=1.1800000000.AAAA"
    )
    assert process.get("/order", {"baggage": spoof}) == 200
    assert process.end() == 0, process.output
    events = receiver.events()
    assert sorted(event.event for event in events) == ["order counted", "order placed"], process.output
    for event in events:
        assert event.properties["$process_person_profile"] is False
        assert "victim" not in str(event)
        assert "$feature/new-checkout" not in event.properties
