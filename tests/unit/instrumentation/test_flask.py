"""Flask, with Flask-Login and without."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from opentelemetry import context

import otel_posthog
from otel_posthog import assembly
from otel_posthog.instrumentation.flask import PostHogFlaskInstrumentor
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.conftest import ADA, GRACE, people

flask = pytest.importorskip("flask")
flask_login = pytest.importorskip("flask_login")

USERS = "users:\n  set: {role: role}\n  set_once: {first_seen: since}\n"


class Account(flask_login.UserMixin):  # type: ignore[misc]
    """A user whose sessions hold no id, but a token, as Flask-Login's manual recommends."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.role = "member"
        self.since = "2026-01-01"

    def get_id(self) -> str:
        """Kept in the session."""
        return f"secret-token-{self.id}"


class Shop:
    """A Flask app with Flask-Login."""

    def __init__(self) -> None:
        self.loaded = 0
        self.accounts = {number: Account(number) for number in range(1, 20)}
        app = self.app = flask.Flask("shop")
        app.secret_key = "not a secret"
        logins = flask_login.LoginManager(app)
        logins.user_loader(self.load)
        app.add_url_rule("/login/<int:number>", "login", self.login)
        app.add_url_rule("/logout", "logout", self.logout)
        app.add_url_rule("/me", "me", self.me)
        app.add_url_rule("/", "index", self.index)
        app.add_url_rule("/wait/<int:number>", "wait", self.wait)
        self.barrier = threading.Barrier(8)

    def load(self, token: str) -> Account | None:
        """As from a database."""
        self.loaded += 1
        return self.accounts.get(int(token.rpartition("-")[2]))

    def login(self, number: int) -> str:
        """Logs in."""
        flask_login.login_user(self.accounts[number], remember=True)
        otel_posthog.capture("welcomed")
        return "hello"

    def logout(self) -> str:
        """Logs out."""
        flask_login.logout_user()
        otel_posthog.capture("left")
        return "bye"

    def me(self) -> str:
        """Asks who it is."""
        otel_posthog.capture("asked")
        return str(flask_login.current_user.is_authenticated)

    def index(self) -> str:
        """Asks nobody."""
        otel_posthog.capture("looked")
        return "hi"

    def wait(self, number: int) -> str:
        """Logs in, and goes on when everybody else has."""
        flask_login.login_user(self.accounts[number])
        self.barrier.wait(60)
        otel_posthog.capture("waited", {"number": number})
        return "done"


def headers(distinct_id: str) -> dict[str, str]:
    """What posthog-js sends."""
    return {"X-POSTHOG-DISTINCT-ID": distinct_id}


@pytest.fixture
def shop(on: Callable[..., Any], calls: Calls) -> Shop:
    """A shop, instrumented."""
    on(PostHogFlaskInstrumentor)
    return Shop()


def test_a_visit_a_login_and_a_logout(shop: Shop, calls: Calls) -> None:
    """The visitor's anonymous id becomes the person's at the login, once; after the logout it is nobody."""
    client = shop.app.test_client()
    client.get("/", headers=headers(ADA))
    client.get("/login/1", headers=headers(ADA))
    client.get("/me", headers=headers(ADA))
    client.get("/logout")
    client.get("/", headers=headers(ADA))

    assert people(calls) == [
        ("looked", ADA),
        ("$identify", "1"),
        ("welcomed", "1"),
        ("asked", "1"),
        ("left", ""),
        ("looked", ADA),
    ]


def test_mapped_properties_at_the_login_and_when_they_change(
    on: Callable[..., Any], build: Callable[..., Calls]
) -> None:
    """`$set` and `$set_once` go out with a login, and a changed property with the next request; nothing in others."""
    calls = build(rules=USERS)
    on(PostHogFlaskInstrumentor)
    shop = Shop()
    client = shop.app.test_client()
    client.get("/login/1")
    client.get("/me")
    shop.accounts[1].role = "owner"
    client.get("/me")
    client.get("/me")

    updates = [(name, own) for name, _, own in calls.said if name.startswith("$")]
    assert updates == [
        ("$set", {"$set": {"role": "member"}, "$set_once": {"first_seen": "2026-01-01"}}),
        ("$set", {"$set": {"role": "owner"}}),
    ]


def test_nobody_is_loaded_for_us(shop: Shop, calls: Calls) -> None:
    """A page that does not ask who it is loads nobody; who was loaded before is known by the session all the same."""
    client = shop.app.test_client()
    client.get("/login/1")
    before = shop.loaded

    client.get("/")

    assert shop.loaded == before
    assert people(calls)[-1] == ("looked", "1")


def test_a_key_stands_for_whom_the_rules_name(
    on: Callable[..., Any], build: Callable[..., Calls], tmp_path: Any
) -> None:
    """After a reload by which people have other ids, nobody goes on under the one before."""
    calls = build(rules="users: {set: {role: role}}\n")
    on(PostHogFlaskInstrumentor)
    client = Shop().app.test_client()
    for path in ("/login/1", "/me", "/"):
        client.get(path)
    runtime = assembly.current()
    assert runtime is not None
    Path(runtime.settings.rules.path).write_text("users: {distinct_id: 'member-{user.id}'}\n", encoding="utf-8")
    assembly.reload(runtime.settings)
    for path in ("/", "/me", "/"):
        client.get(path)

    looked = [person for name, person in people(calls) if name == "looked"]
    assert looked == ["1", "", "member-1"]


def test_groups_of_the_session(on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """A request that loads nobody is its group's, too, where the session says which; no group is remembered."""
    calls = build(rules="users:\n  groups: {company: session.company, team: user.team}\n")
    on(PostHogFlaskInstrumentor)
    shop = Shop()
    shop.accounts[1].team = "blue"  # type: ignore[attr-defined]
    client = shop.app.test_client()
    client.get("/login/1")
    with client.session_transaction() as session:
        session["company"] = "acme"
    client.get("/me")
    client.get("/")

    groups = [(name, own.get("$groups")) for name, _, own in calls.said if name in ("welcomed", "looked")]
    assert groups == [("welcomed", {"team": "blue"}), ("looked", {"company": "acme"})]


def test_a_session_that_was_not_seen_before_is_nobody_s(shop: Shop, calls: Calls) -> None:
    """What Flask-Login keeps in a session may be a token: it is never sent."""
    client = shop.app.test_client()
    with client.session_transaction() as session:
        session["_user_id"] = "secret-token-1"
    client.get("/")

    assert people(calls) == [("looked", "")]
    assert "secret" not in str(calls.events)


def test_a_remembered_login(shop: Shop, calls: Calls) -> None:
    """A cookie that logs in again is a login."""
    client = shop.app.test_client()
    client.get("/login/1", headers=headers(ADA))
    client.delete_cookie("session")
    client.get("/me", headers=headers(GRACE))

    assert people(calls) == [("$identify", "1"), ("welcomed", "1"), ("asked", GRACE), ("$identify", "1")]


def test_the_next_request_on_the_thread_is_somebody_else_s(shop: Shop, calls: Calls) -> None:
    """Nothing of one request is left for the next."""
    ada, grace = shop.app.test_client(), shop.app.test_client()
    ada.get("/login/1", headers=headers(ADA))
    grace.get("/")
    grace.get("/login/2", headers=headers(GRACE))
    ada.get("/me")

    assert people(calls) == [
        ("$identify", "1"),
        ("welcomed", "1"),
        ("looked", ""),
        ("$identify", "2"),
        ("welcomed", "2"),
        ("asked", "1"),
    ]


def test_requests_at_once(shop: Shop, calls: Calls) -> None:
    """Eight threads, eight people, all of them in the middle of a request: each event is its own person's."""
    threads = [
        threading.Thread(target=lambda number=number: shop.app.test_client().get(f"/wait/{number}"))
        for number in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert {(person, own["number"]) for _, person, own in calls.said} == {(str(n), n) for n in range(1, 9)}


def test_the_cookie_of_posthog_js(shop: Shop, calls: Calls) -> None:
    """Without the header the cookie names the visitor, and the login merges it."""
    client = shop.app.test_client()
    client.set_cookie("ph_phc_test_posthog", quote(json.dumps({"distinct_id": ADA, "$user_state": "anonymous"})))
    client.get("/")
    client.get("/login/1")

    assert people(calls) == [("looked", ADA), ("$identify", "1"), ("welcomed", "1")]


def test_an_id_that_is_no_anonymous_one_is_not_merged(shop: Shop, calls: Calls) -> None:
    """A shared computer: the browser still says it is the former user, who must not become one with the next."""
    client = shop.app.test_client()
    client.get("/login/2", headers=headers("1"))

    assert people(calls) == [("welcomed", "2")]


SESSION = "users: {sources: session.account}\n"


def test_a_plain_session(on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """By configuration: a number that appears in the session is a login, one that goes a logout."""
    calls = build(rules=SESSION)
    on(PostHogFlaskInstrumentor)
    app = flask.Flask("shop")
    app.secret_key = "not a secret"

    @app.get("/login")
    def login() -> str:
        flask.session["account"] = 7
        return "hello"

    @app.get("/logout")
    def logout() -> str:
        flask.session.clear()
        return "bye"

    @app.get("/")
    def index() -> str:
        otel_posthog.capture("looked")
        return "hi"

    client = app.test_client()
    client.get("/login", headers=headers(ADA))
    quiet = client.get("/")
    client.get("/logout")
    client.get("/")

    assert people(calls) == [("$identify", "7"), ("looked", "7"), ("looked", "")]
    assert "Vary" not in quiet.headers


@pytest.mark.parametrize("user", [{"id": 7, "name": "Ada"}, Account(7)], ids=["row", "object"])
def test_the_user_of_g(user: Any, on: Callable[..., Any], calls: Calls) -> None:
    """`g.user`, as in Flask's tutorial: there before the view, and merged with the visitor once."""
    on(PostHogFlaskInstrumentor)
    app = flask.Flask("shop")

    @app.before_request
    def load() -> None:
        flask.g.user = user if flask.request.headers.get("X-Key") else None

    @app.get("/")
    def index() -> str:
        otel_posthog.capture("looked")
        return "hi"

    client = app.test_client()
    client.get("/")
    for _ in range(3):
        client.get("/", headers={"X-Key": "k", **headers(ADA)})

    assert people(calls) == [("looked", ""), ("$identify", "7"), ("looked", "7"), ("looked", "7"), ("looked", "7")]


def test_a_name_in_g_is_no_id(on: Callable[..., Any], calls: Calls) -> None:
    """A bare text that nobody named in the configuration may be an address: it stays."""
    on(PostHogFlaskInstrumentor)
    app = flask.Flask("shop")

    @app.get("/")
    def index() -> str:
        flask.g.user = "ada@example.com"
        otel_posthog.capture("looked")
        return "hi"

    app.test_client().get("/")

    assert people(calls) == [("looked", "")]


def test_until_the_last_word(shop: Shop, calls: Calls) -> None:
    """A streamed answer is part of its request, and nothing is left of it afterwards."""

    @shop.app.get("/stream")
    def stream() -> Any:
        flask_login.login_user(shop.accounts[3])

        def words() -> Any:
            otel_posthog.capture("said")
            yield "hi"

        return flask.Response(flask.stream_with_context(words()) if flask.request.args else words())

    for query in ("", "?with=context"):
        assert shop.app.test_client().get(f"/stream{query}").text == "hi"
    assert people(calls) == [("said", "3"), ("said", "3")]
    assert dict(context.get_current()) == {}


def test_a_stream_that_nobody_reads_is_closed(shop: Shop, calls: Calls) -> None:
    """What the app streams is closed as it was without us, asked for or not."""

    class Rows:
        closed = 0

        def __iter__(self) -> Any:
            return iter([b"hi"])

        def close(self) -> None:
            Rows.closed += 1

    shop.app.add_url_rule("/rows", "rows", lambda: flask.Response(Rows()))
    shop.app.test_client().head("/rows").close()

    assert Rows.closed == 1


def test_a_copy_of_the_request_ends_nothing(shop: Shop, calls: Calls) -> None:
    """A thread with a copy of the request context tears that down, and not the request."""

    @shop.app.get("/thread")
    def thread() -> str:
        flask_login.login_user(shop.accounts[3])
        worker = threading.Thread(target=flask.copy_current_request_context(lambda: None))
        worker.start()
        worker.join(60)
        otel_posthog.capture("went on")
        return "hi"

    shop.app.test_client().get("/thread")

    assert people(calls) == [("went on", "3")]


def test_a_teardown_that_fails(shop: Shop, calls: Calls) -> None:
    """The visit ends whatever the app's own functions do."""

    @shop.app.teardown_request
    def fail(_error: Any) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        shop.app.test_client().get("/login/1")

    assert dict(context.get_current()) == {}


# --- errors ----------------------------------------------------------------------------------------------------------


def failing(on: Callable[..., Any]) -> Any:
    """An app that answers its own errors."""
    on(PostHogFlaskInstrumentor)
    app = flask.Flask("shop")
    app.add_url_rule("/value", "value", raising(ValueError("no stock left")))
    app.add_url_rule("/key", "key", raising(KeyError("colour")))
    app.add_url_rule("/abort", "abort", lambda: flask.abort(503))
    app.add_url_rule("/made", "made", made_of_an_error)
    app.add_url_rule("/chosen", "chosen", lambda: flask.abort(500))
    app.add_url_rule("/type", "type", raising(TypeError("odd")))
    app.register_error_handler(ValueError, lambda _: ({"error": "sorry"}, 500))
    app.register_error_handler(KeyError, lambda _: ("which colour?", 400))
    app.register_error_handler(500, lambda _: ("sorry", 500))
    app.register_error_handler(503, lambda _: ("later", 503))
    return app


def raising(error: Exception) -> Callable[[], str]:
    """A view."""

    def view() -> str:
        raise error

    return view


def made_of_an_error() -> str:
    """A view that answers its own error."""
    try:
        return {}["colour"]
    except KeyError:
        flask.abort(500)


def issues(calls: Calls) -> list[tuple[str, bool]]:
    """Type and `handled` of each exception that was captured."""
    found = [event.properties["$exception_list"][0] for event in calls.events if event.event == "$exception"]
    return [(item["type"], item["mechanism"]["handled"]) for item in found]


@pytest.mark.parametrize(
    ("path", "status", "captured"),
    [
        ("/value", 500, [("ValueError", True)]),
        ("/key", 400, []),
        ("/abort", 503, []),
        ("/chosen", 500, []),
        ("/made", 500, [("KeyError", True)]),
    ],
)
def test_errors_that_a_handler_answered(
    path: str, status: int, captured: list[Any], on: Callable[..., Any], calls: Calls
) -> None:
    """A server error made by a handler is captured with the live exception; answers to clients are not."""
    assert failing(on).test_client().get(path).status_code == status
    assert issues(calls) == captured


def test_one_of_each_beside_opentelemetry(on: Callable[..., Any], calls: Calls) -> None:
    """Where OpenTelemetry sees the error, too, it is still one."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    app = failing(on)
    FlaskInstrumentor().instrument_app(app, tracer_provider=calls.app.tracer_provider)
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/value", "/type")] == [500, 500]

    assert sorted(issues(calls)) == [("TypeError", False), ("ValueError", True)]


def test_inside_of_opentelemetry(on: Callable[..., Any], calls: Calls) -> None:
    """OpenTelemetry replaces the context in each request: the visit begins inside of it, and its spans are marked."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    on(PostHogFlaskInstrumentor)
    shop = Shop()
    FlaskInstrumentor().instrument_app(shop.app, tracer_provider=calls.app.tracer_provider)
    client = shop.app.test_client()
    with calls.app.tracer.start_as_current_span("outside"):
        pass
    client.get("/login/1", headers=headers(ADA))
    client.get("/")

    assert people(calls) == [("$identify", "1"), ("welcomed", "1"), ("looked", "1")]
    assert dict(context.get_current()) == {}


# --- being there, and not --------------------------------------------------------------------------------------------


def anatomy(app: Any) -> list[Any]:
    """Everything that may be changed."""
    return [
        dict(vars(flask.Flask)),
        dict(vars(flask_login.LoginManager)),
        {name: list(functions) for name, functions in app.before_request_funcs.items()},
        {name: list(functions) for name, functions in app.teardown_request_funcs.items()},
        [dict(signal.receivers) for signal in (flask_login.user_logged_in, flask_login.user_logged_out)],
        dict(flask_login.user_loaded_from_cookie.receivers),
    ]


def test_no_trace_is_left(calls: Calls) -> None:
    """After `uninstrument` every object is what it was, also of apps that have answered requests."""
    shop = Shop()
    before = anatomy(shop.app)
    instrumentor = PostHogFlaskInstrumentor()
    instrumentor.instrument()
    during = anatomy(shop.app)
    shop.app.test_client().get("/login/1")
    assert during != before
    instrumentor.uninstrument()

    assert anatomy(shop.app) == before
    shop.app.test_client().get("/login/2")
    assert people(calls)[-1] == ("welcomed", "")


def test_again(on: Callable[..., Any], calls: Calls) -> None:
    """Twice is once, and it may be switched on again."""
    instrumentor = on(PostHogFlaskInstrumentor)
    PostHogFlaskInstrumentor().instrument()
    instrumentor.uninstrument()
    on(PostHogFlaskInstrumentor)
    Shop().app.test_client().get("/login/1", headers=headers(ADA))

    assert people(calls) == [("$identify", "1"), ("welcomed", "1")]


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the gate shut nothing is wrapped, and instrumenting later works."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    shop = Shop()
    before = anatomy(shop.app)
    instrumentor = PostHogFlaskInstrumentor()
    instrumentor.instrument()

    assert anatomy(shop.app) == before
    assert not instrumentor.is_instrumented_by_opentelemetry


def test_it_never_breaks_the_app(on: Callable[..., Any], calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in us, requests, logins and error handlers do what they did; it is counted."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    instrumentor = on(PostHogFlaskInstrumentor)
    shop = Shop()
    shop.app.register_error_handler(ValueError, lambda _: ("sorry", 500))
    shop.app.add_url_rule("/value", "value", raising(ValueError("no stock left")))

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("sabotage")

    for name in ("arrive", "seen", "logged_in", "logged_out", "returned"):
        monkeypatch.setattr(instrumentor.at_work.people, name, broken)
    client = shop.app.test_client()
    paths = ("/", "/login/1", "/me", "/logout", "/value")

    assert [client.get(path).status_code for path in paths] == [200, 200, 200, 200, 500]
    counts = calls.app.runtime.guard.counts()
    assert counts.pop("instrumentation.flask") > 4
    assert counts == {}
    calls.app.runtime.guard.after_fork()
