"""Two real services in a row are one person's request, and a third that is not ours learns nothing of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

import pytest
from dirty_equals import IsPartialDict

from otel_posthog.config.settings import Secret
from otel_posthog.context.signature import sign
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


def test_anonymous_until_a_login(
    environment: Callable[[str], Environment], launch: Launch, foreign: Foreign, receiver: Receiver
) -> None:
    """A visitor whom both services know by one id logs in at the second, twice: one `$identify`, one person."""
    where = environment("stock")
    with Emulator() as emulator:
        env = variables(receiver, "direct", where, OTEL_POSTHOG_BAGGAGE_SECRET=SECRET, ORDERS="")
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{emulator.url}/i"
        accounts = launch(where.instrumented("python", "chain_flask.py", "{fd}", "4"), env, serve=True)
        assert accounts.socket is not None
        env["ORDERS"] = f"http://127.0.0.1:{accounts.socket.getsockname()[1]}"
        shop = launch(where.instrumented("python", "chain_flask.py", "{fd}", "4"), env, serve=True)
        statuses = [shop.get(f"/browse/{path}") for path in ("mugs", "mugs", "login", "login")]
        assert (shop.end(), accounts.end(), statuses) == (0, 0, [200] * 4), shop.output + accounts.output
        told = sorted((event["event"], event["distinct_id"]) for event in emulator.events(token=TOKEN))
        (identify,) = emulator.events(event="$identify")
        people = emulator.persons()
    assert told == [
        ("$identify", "ada"),
        ("logged in", "ada"),
        ("logged in", "ada"),
        ("login asked for", "visitor-1"),
        ("login asked for", "visitor-1"),
        ("mugs asked for", "visitor-1"),
        ("mugs asked for", "visitor-1"),
        ("mugs seen", "visitor-1"),
        ("mugs seen", "visitor-1"),
    ]
    assert identify["properties"]["$anon_distinct_id"] == "visitor-1"
    assert [sorted(person["distinct_ids"]) for person in people] == [["ada", "visitor-1"]]


def signed(members: dict[str, str], secret: str = SECRET, age: float = 0, **instead: str) -> str:
    """A `baggage` header whose members are signed, some of which are something else now."""
    signature = sign(members, Secret(secret), time.time() - age)
    return header({**members, "posthog.signature": signature, **instead})


def header(members: dict[str, str]) -> str:
    """A `baggage` header."""
    return ",".join(f"{name}={quote(value, safe='')}" for name, value in members.items())


EVE = {"posthog.distinct_id": "eve", "posthog.groups": "company=acme"}
VICTIM = {
    "posthog.distinct_id": "victim",
    "posthog.anonymous_id": "victim",
    "user.id": "victim",
    "posthog.groups": "company=victim",
    "posthog.flags": "victim",
    "posthog.properties": "plan=victim",
}
HOSTILE = [
    # header, who is believed where there is no secret, and where there is one
    (header(EVE), "eve", ""),
    (signed(EVE), "eve", "eve"),
    (signed(EVE, **{"posthog.distinct_id": "victim"}), "victim", ""),
    (signed(EVE, **{"posthog.flags": "victim"}), "eve", ""),
    (signed(EVE, **VICTIM), "victim", ""),
    (signed(EVE, age=3_700), "eve", ""),
    (signed(EVE, age=-3_600), "eve", ""),
    (signed(EVE, secret="another secret of 32 characters."), "eve", ""),
    (signed(EVE) + ",posthog.distinct_id=victim", "victim", ""),
    (header({**VICTIM, "posthog.signature": "2." + "A" * 90}), "victim", ""),
    *(
        (header({"posthog.distinct_id": bad}), "", "")
        for bad in ("null", "anonymous", "0", "a" * 201, "a\0b", "a\r\nX: b")
    ),
    (header({"posthog.distinct_id": "eve", "posthog.groups": "&".join(f"g{n}=v" for n in range(400))}), "eve", ""),
    (header({"posthog.distinct_id": "eve", "x": "a" * 9_000}), "", ""),
    (header({f"m{number}": "v" for number in range(300)} | {"posthog.distinct_id": "eve"}), "", ""),
    ("posthog.distinct_id", "", ""),
    ("%ff=%ff,posthog.distinct_id=%ff%fe,posthog.groups==,posthog.flags=&&&!,posthog.properties=:=:=", "", ""),
]


@pytest.mark.parametrize("secret", ["", SECRET], ids=["open", "signed"])
def test_hostile_headers(
    environment: Callable[[str], Environment], launch: Launch, foreign: Foreign, receiver: Receiver, secret: str
) -> None:
    """Whatever a stranger sends: an id that is none names nobody, and with a secret nothing counts that is not signed
    as a whole, by one of us, lately. No request fails.
    """
    where = environment("stock")
    env = variables(
        receiver,
        "direct",
        where,
        OTEL_POSTHOG_BAGGAGE_PROPERTIES="plan",
        OTEL_POSTHOG_BAGGAGE_HOSTS=f"internal,!{foreign.address}",
        FOREIGN=f"http://{foreign.address}",
    )
    if secret:
        env["OTEL_POSTHOG_BAGGAGE_SECRET"] = secret
    orders = launch(where.instrumented("python", "chain_flask.py", "{fd}", str(len(HOSTILE))), env, serve=True)
    statuses = [orders.get("/order", {"baggage": sent}) for sent, *_ in HOSTILE]
    assert (orders.end(), statuses) == (0, [200] * len(HOSTILE)), orders.output

    counted = [event for event in receiver.events() if event.event == "order counted"]
    # Ids made by `capture` grow with time.
    found = sorted(counted, key=lambda event: event.uuid)
    who = ["" if event.properties.get("$process_person_profile") is False else event.distinct_id for event in found]
    assert who == [signed if secret else claimed for _, claimed, signed in HOSTILE], orders.output
    assert len(receiver.events()) == 2 * len(HOSTILE)
    for event in receiver.events():
        assert len(event.properties.get("$groups", {})) <= 5
        assert not secret or "victim" not in str(event)
    assert not any(name in headers.get("baggage", "") for _, headers in foreign.requests for name in ("eve", "victim"))
