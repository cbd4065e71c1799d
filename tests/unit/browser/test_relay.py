"""The relay: only PostHog's paths, nothing of the app's goes out, and an outage costs little."""

from __future__ import annotations

import asyncio
import gzip
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from otel_posthog.browser.relay import AT_ONCE, MAX_REQUEST, MAX_RESPONSE, Answer, Relay
from otel_posthog.browser.relay_servers import RelayASGI, RelayWSGI
from tests.unit.browser.conftest import TOKEN, Upstream


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def relay(setting: Callable[..., None], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """One of the test's own, also for the servers."""
    made = Relay(clock)
    monkeypatch.setattr("otel_posthog.browser.relay_servers.relay", made)
    yield made
    if made._pool is not None:
        made._pool.clear()


def ask(relay: Relay, path: str, method: str = "POST", body: bytes = b"x", **headers: str) -> Answer:
    """One request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return relay.answer(method, path, "ip=0&_=1", named, body, "203.0.113.7")


ALLOWED = [
    ("POST", "/e/"),
    ("POST", "/i/v0/e/"),
    ("POST", "/s/"),
    ("POST", "/flags/"),
    ("POST", "/decide/"),
    ("POST", "/engage/"),
    ("GET", "/static/array.js"),
    ("GET", "/static/1.449.2/lazy-recorder.js"),
    ("GET", "/static/array.js.map"),
    ("GET", f"/array/{TOKEN}/config.js"),
    ("GET", f"/array/{TOKEN}/config"),
    ("GET", "/api/surveys/"),
]
REFUSED = [
    ("GET", "/"),
    ("GET", "/e/"),
    ("POST", "/batch/"),
    ("POST", "/i/v1/traces"),
    ("POST", "/api/projects/1/events"),
    ("GET", "/api/projects/@current"),
    ("GET", "/array/phc_another/config.js"),
    ("GET", "/static/../api/projects/"),
    ("GET", "/static/a/b/c.js"),
    ("GET", "/static/..js"),
    ("GET", "/static/index.html"),
    ("GET", "//evil.example/static/array.js"),
    ("GET", "/static/array.js\n"),
    ("GET", "/static/array.js?x"),
    ("POST", "/e/@evil.example"),
    ("POST", "@evil.example/e/"),
    ("PUT", "/e/"),
    ("DELETE", "/flags/"),
    ("OPTIONS", "/e/"),
    ("CONNECT", "/e/"),
]


@pytest.mark.parametrize(("method", "path"), ALLOWED)
def test_allowed(relay: Relay, upstream: Upstream, method: str, path: str) -> None:
    """What posthog-js asks goes through, query and all."""
    answer = ask(relay, path, method, b"x" if method == "POST" else b"")

    assert (answer.status, answer.body) == (200, upstream.body)
    assert [(one[0], one[1]) for one in upstream.asked] == [(method, f"{path}?ip=0&_=1")]


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_refused(relay: Relay, upstream: Upstream, method: str, path: str) -> None:
    """Whatever else is asked ends here."""
    assert ask(relay, path, method).status == 404
    assert upstream.asked == []


def test_headers(relay: Relay, upstream: Upstream) -> None:
    """Bodies pass as they are; no cookie, authorization or address goes out, and no cookie comes in."""
    body = gzip.compress(b"{}")
    upstream.headers = {
        "Content-Type": "text/javascript",
        "Content-Encoding": "gzip",
        "Cache-Control": "max-age=60",
        "Set-Cookie": "posthog=1",
        "Access-Control-Allow-Origin": "*",
        "ETag": '"1"',
    }
    upstream.body = gzip.compress(b"answer")
    answer = ask(
        relay,
        "/e/",
        body=body,
        cookie="session=1",
        authorization="Bearer x",
        x_forwarded_for="10.0.0.1",
        x_posthog_distinct_id="ada",
        referer="https://shop/secret",
        host="shop",
        user_agent="Mozilla/5.0",
        content_type="text/plain",
        content_encoding="gzip",
    )

    ((_, _, headers, sent),) = upstream.asked
    del headers["host"]
    assert sent == body
    assert headers == {
        "user-agent": "Mozilla/5.0",
        "content-type": "text/plain",
        "content-encoding": "gzip",
        "content-length": str(len(body)),
        "accept-encoding": "identity",
    }
    assert answer == Answer(
        200,
        {
            "content-type": "text/javascript",
            "content-encoding": "gzip",
            "cache-control": "max-age=60",
            "etag": '"1"',
            "x-content-type-options": "nosniff",
        },
        upstream.body,
    )


def test_address_by_configuration(setting: Callable[..., None], relay: Relay, upstream: Upstream) -> None:
    """PostHog learns the browser's address where that is configured, and only the one that the server saw."""
    setting(OTEL_POSTHOG_BROWSER_RELAY_CLIENT_IP="true")
    ask(relay, "/e/", x_forwarded_for="10.0.0.1")

    assert upstream.asked[0][2]["x-forwarded-for"] == "203.0.113.7"


@pytest.mark.parametrize(("theirs", "ours"), [(400, 400), (429, 429), (503, 503), (304, 304), (302, 502), (308, 502)])
def test_statuses(relay: Relay, upstream: Upstream, theirs: int, ours: int) -> None:
    """PostHog's verdicts pass; nobody is sent elsewhere."""
    upstream.status = theirs
    upstream.headers = {"Location": "https://evil.example", "Retry-After": "7"}
    upstream.body = b""
    answer = ask(relay, "/e/")

    assert (answer.status, "location" in answer.headers) == (ours, False)


def test_sizes(relay: Relay, upstream: Upstream) -> None:
    """Too large a request is not sent, too large an answer not kept."""
    assert ask(relay, "/s/", body=bytes(MAX_REQUEST + 1)).status == 413
    assert upstream.asked == []
    upstream.body = bytes(MAX_RESPONSE + 1)
    assert ask(relay, "/static/array.js", "GET", b"").status == 502


def test_outage(relay: Relay, upstream: Upstream, clock: Clock) -> None:
    """Nobody there: 502, then 503 at once without asking, longer each time; an answer ends it."""
    port = upstream.url
    upstream.close()
    assert port
    assert [ask(relay, "/e/").status for _ in range(3)] == [502, 503, 503]
    clock.now += 1.01
    assert [ask(relay, "/e/").status for _ in range(2)] == [502, 503]
    clock.now += 1.01
    assert ask(relay, "/e/").status == 503
    clock.now += 1.01
    assert ask(relay, "/e/").status == 502


def test_bounded(relay: Relay, upstream: Upstream) -> None:
    """While as many wait as may, further ones are told to come again; afterwards there is room."""
    upstream.holding.clear()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(relay, "/e/").status)) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    while relay._free:
        threads[0].join(0.01)

    refused = ask(relay, "/e/")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    upstream.holding.set()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * AT_ONCE
    assert ask(relay, "/e/").status == 200


def test_off(setting: Callable[..., None], relay: Relay, upstream: Upstream) -> None:
    """With the gate shut, or pages off, there is no relay."""
    for variables in ({"OTEL_SDK_DISABLED": "true"}, {"OTEL_POSTHOG_BROWSER": "false"}):
        setting(**variables)
        assert ask(relay, "/e/").status == 404
        assert ask(relay, "/analytics.js", "GET").status == 404
    assert upstream.asked == []


def test_wrapper(relay: Relay, upstream: Upstream) -> None:
    """The wrapper comes from the package itself."""
    script, module = ask(relay, "/analytics.js", "GET"), ask(relay, "/analytics.mjs", "GET")

    assert b"otelPosthog" in script.body
    assert b"export default" in module.body
    assert script.headers["content-type"] == module.headers["content-type"] == "text/javascript"
    assert upstream.asked == []


def test_no_use_of_the_app(relay: Relay) -> None:
    """The request's span says that it is not to be converted."""
    span = TracerProvider().get_tracer("t").start_span("POST /relay/e/")
    with use_span(span, end_on_exit=True):
        ask(relay, "/e/")

    assert dict(span.attributes or {}) == {"posthog.ignore": True}  # type: ignore[attr-defined]


# --- servers ---------------------------------------------------------------------------------------------------------


def wsgi(app: Any, path: str, body: bytes = b"", **environ: Any) -> tuple[str, dict[str, str], bytes]:
    """One request of a WSGI server."""
    began: list[Any] = []
    environ = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "PATH_INFO": path,
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "CONTENT_TYPE": "text/plain",
        "wsgi.input": io.BytesIO(body),
        "REMOTE_ADDR": "203.0.113.7",
        **environ,
    }
    out = b"".join(app(environ, lambda status, headers: began.append((status, dict(headers)))))
    return began[0][0], began[0][1], out


def home(environ: Any, start_response: Any) -> list[bytes]:
    """The app."""
    start_response("200 OK", [])
    return [b"home"]


def test_wsgi(setting: Callable[..., None], relay: Relay, upstream: Upstream) -> None:
    """As an app and as a middleware; broken lengths are refused, bodies read as far as they are said to go."""
    setting(OTEL_POSTHOG_BROWSER_RELAY="/relay")
    middleware = RelayWSGI(home)
    status, headers, out = wsgi(middleware, "/relay/e/", b"event", HTTP_COOKIE="a=1", HTTP_USER_AGENT="M")
    assert (status, headers["content-length"], out) == ("200 OK", str(len(upstream.body)), upstream.body)
    assert upstream.asked[0][2]["user-agent"] == "M"
    assert upstream.asked[0][3] == b"event"

    assert wsgi(middleware, "/", b"")[2] == b"home"
    assert wsgi(middleware, "/relayed/e/", b"x")[2] == b"home"
    assert wsgi(RelayWSGI(), "/e/", b"x")[0] == "200 OK"
    for length, wanted in (("many", "400"), ("-1", "400"), (str(MAX_REQUEST + 1), "413"), ("10", "400")):
        assert wsgi(RelayWSGI(), "/e/", b"short", CONTENT_LENGTH=length)[0].startswith(wanted)
    assert len(upstream.asked) == 2


async def asgi(app: Any, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """One request of an ASGI server."""
    coming, sent = list(messages), []

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    whole = {"type": "http", "method": "POST", "path": "/e/", "query_string": b"", "headers": [], "client": None}
    await app({**whole, **scope}, receive, send)
    return sent


def test_asgi(setting: Callable[..., None], relay: Relay, upstream: Upstream) -> None:
    """As an app, mounted, and as a middleware; the loop does not wait for PostHog."""
    setting(OTEL_POSTHOG_BROWSER_RELAY="/relay")
    pieces = [{"type": "http.request", "body": b"ev", "more_body": True}, {"type": "http.request", "body": b"ent"}]
    start, end = asyncio.run(asgi(RelayASGI(), {"headers": [(b"User-Agent", b"M")]}, *pieces))
    assert (start["status"], end["body"], upstream.asked[0][3]) == (200, upstream.body, b"event")
    assert upstream.asked[0][2]["user-agent"] == "M"

    mounted = {"path": "/relay/e/", "root_path": "/relay"}
    assert asyncio.run(asgi(RelayASGI(), mounted, *pieces))[0]["status"] == 200

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "app", "path": scope.get("path")})

    middleware = RelayASGI(app)
    assert asyncio.run(asgi(middleware, {"path": "/"})) == [{"type": "app", "path": "/"}]
    assert asyncio.run(asgi(middleware, {"type": "lifespan"})) == [{"type": "app", "path": "/e/"}]
    assert asyncio.run(asgi(middleware, {"path": "/relay/e/"}, *pieces))[0]["status"] == 200
    assert asyncio.run(asgi(RelayASGI(), {}, {"type": "http.disconnect"})) == []
    flood = [{"type": "http.request", "body": bytes(1 << 20), "more_body": True}] * 9
    assert asyncio.run(asgi(RelayASGI(), {}, *flood))[0]["status"] == 413


def test_flask(setting: Callable[..., None], relay: Relay, upstream: Upstream) -> None:
    """As a blueprint below any prefix."""
    flask = pytest.importorskip("flask")
    from otel_posthog.browser import relay_blueprint

    app = flask.Flask("shop")
    app.register_blueprint(relay_blueprint(), url_prefix="/relay")
    client = app.test_client()

    answer = client.post("/relay/e/?a=1", data=b"event", content_type="text/plain", headers={"Cookie": "a=1"})
    assert (answer.status_code, answer.data, answer.content_type) == (200, upstream.body, "application/json")
    assert upstream.asked[0][1] == "/e/?a=1"
    assert "cookie" not in upstream.asked[0][2]
    assert client.get("/relay/admin").status_code == 404


def test_starlette(setting: Callable[..., None], relay: Relay, upstream: Upstream) -> None:
    """Mounted into Starlette."""
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = Starlette(routes=[Mount("/relay", RelayASGI())])
    pieces = [{"type": "http.request", "body": b"event"}]
    start, end = asyncio.run(asgi(app, {"path": "/relay/e/", "raw_path": b"/relay/e/"}, *pieces))

    assert (start["status"], end["body"], upstream.asked[0][1]) == (200, upstream.body, "/e/")
