"""Starlette and FastAPI."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import fastapi
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import otel_posthog
from otel_posthog import assembly
from otel_posthog.instrumentation.asgi import Edge, Inside
from otel_posthog.instrumentation.fastapi import PostHogFastAPIInstrumentor
from otel_posthog.instrumentation.starlette import PostHogStarletteInstrumentor
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.conftest import ADA, GRACE, people
from tests.unit.instrumentation.test_flask import issues


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[bytes, bytes]]

    @property
    def cookie(self) -> str:
        """The session's."""
        return next(value.decode().split(";")[0] for name, value in self.headers if name == b"set-cookie")


async def ask(app: Any, path: str, **headers: str) -> Answer:
    """One request, as a server passes it on."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    said: list[Any] = []
    over = asyncio.Event()

    async def receive() -> Any:
        if not said:
            return {"type": "http.request", "body": b"", "more_body": False}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    with suppress(Exception):  # the server's business: Starlette passes on what only its outermost layer handled
        await app(scope, receive, send)
    over.set()
    return Answer(said[0]["status"], said[0].get("headers", []))


def get(app: Any, path: str, **headers: str) -> Answer:
    """The same, in a loop of its own."""
    return asyncio.run(ask(app, path, **headers))


class Member(BaseUser):
    """A user of Starlette's own kind."""

    def __init__(self, number: int) -> None:
        self.id = number

    @property
    def is_authenticated(self) -> bool:
        """Logged in."""
        return True


class Tokens(AuthenticationBackend):
    """A header that says who it is."""

    async def authenticate(self, conn: Any) -> Any:
        """The member."""
        number = conn.headers.get("x-key")
        return (AuthCredentials(["member"]), Member(int(number))) if number else None


async def look(request: Request) -> PlainTextResponse:
    """Captures, waits for everybody else, captures."""
    otel_posthog.capture("looked", {"key": request.headers.get("x-key")})
    barrier = getattr(request.app.state, "barrier", None)
    if barrier is not None:
        await barrier.wait()
    otel_posthog.capture("left", {"key": request.headers.get("x-key")})
    return PlainTextResponse("hi")


class Together:
    """Lets everybody go on when all are there."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._all = asyncio.Event()

    async def wait(self) -> None:
        """One more is there."""
        self._wanted -= 1
        if not self._wanted:
            self._all.set()
        await self._all.wait()


def by_token() -> Starlette:
    """An app with Starlette's authentication, and a middleware that runs the rest in a task of its own."""

    async def plain(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    return Starlette(
        routes=[Route("/", look)],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=plain),
            Middleware(AuthenticationMiddleware, backend=Tokens()),
        ],
    )


def test_starlette_s_own_authentication(on: Callable[..., Any], calls: Calls) -> None:
    """`request.user`: no login is seen, so the first request with a browser's id merges it."""
    on(PostHogStarletteInstrumentor)
    app = by_token()
    get(app, "/", x_posthog_distinct_id=ADA)
    get(app, "/", x_key="7", x_posthog_distinct_id=ADA)
    get(app, "/", x_key="7", x_posthog_distinct_id=ADA)
    get(app, "/")

    assert people(calls) == [
        ("looked", ADA),
        ("left", ADA),
        ("$identify", "7"),
        ("looked", "7"),
        ("left", "7"),
        ("looked", "7"),
        ("left", "7"),
        ("looked", ""),
        ("left", ""),
    ]


@pytest.mark.parametrize("traced", [False, True])
def test_requests_at_once(traced: bool, on: Callable[..., Any], calls: Calls) -> None:
    """Fifty people in one event loop, all in the middle of a request: each event is its own person's."""
    on(PostHogStarletteInstrumentor)
    app: Any = by_token()
    if traced:
        instrumentation = pytest.importorskip("opentelemetry.instrumentation.starlette")
        instrumentation.StarletteInstrumentor().instrument_app(app, tracer_provider=calls.app.tracer_provider)

    async def everybody() -> None:
        app.state.barrier = Together(50)
        await asyncio.gather(*(ask(app, "/", x_key=str(number)) for number in range(1, 51)))

    asyncio.run(everybody())

    assert sorted((name, person, own["key"]) for name, person, own in calls.said) == sorted(
        (name, str(number), str(number)) for name in ("looked", "left") for number in range(1, 51)
    )


def test_state_and_dependencies(on: Callable[..., Any], calls: Calls) -> None:
    """`request.state.user` of a middleware, and what a dependency gives, by the names that are usual."""
    on(PostHogFastAPIInstrumentor)
    app = fastapi.FastAPI()

    @app.middleware("http")
    async def who(request: fastapi.Request, call_next: Any) -> Any:
        if number := request.headers.get("x-key"):
            request.state.user = {"id": number, "email": "ada@example.com"}
        return await call_next(request)

    def get_current_user() -> Member:
        return Member(8)

    User = Annotated[Any, fastapi.Depends(get_current_user)]

    @app.get("/state")
    async def state() -> str:
        otel_posthog.capture("by state")
        return "hi"

    @app.get("/dependency")
    def dependency(user: User) -> str:
        otel_posthog.capture("by dependency")
        return "hi"

    get(app, "/state", x_key="7")
    get(app, "/dependency")
    get(app, "/state")

    assert people(calls) == [("by state", "7"), ("by dependency", "8"), ("by state", "")]
    assert "example.com" not in str(calls.events)


FUNCTION = "users: {sources: 'tests.unit.instrumentation.test_asgi:who_it_is', distinct_id: user.number}\n"


def who_it_is(request: Any) -> Any:
    """An app's own function."""
    return {"number": request.headers.get("x-key")}


def test_a_function_of_the_app(on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """`module:function`, asked when the answer begins."""
    calls = build(rules=FUNCTION)
    on(PostHogStarletteInstrumentor)
    app: Any = Starlette(routes=[Route("/", look)])
    pytest.importorskip("opentelemetry.instrumentation.starlette").StarletteInstrumentor().instrument_app(
        app, tracer_provider=calls.app.tracer_provider
    )
    get(app, "/", x_key="7")

    # What was captured before waits for the end of its trace.
    assert people(calls) == [("looked", "7"), ("left", "7")]


def test_a_session(on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """A number that appears in the session is a login, one that goes a logout; reading it is not noted."""
    calls = build(rules="users: {sources: session.account}\n")
    on(PostHogStarletteInstrumentor)

    async def login(request: Request) -> PlainTextResponse:
        request.session["account"] = 7
        return PlainTextResponse("hello")

    async def logout(request: Request) -> PlainTextResponse:
        request.session.clear()
        return PlainTextResponse("bye")

    routes = [Route("/", look), Route("/login", login), Route("/logout", logout)]
    app = Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, secret_key="not a secret")])
    cookie = get(app, "/login", x_posthog_distinct_id=ADA).cookie
    quiet = get(app, "/", cookie=cookie)
    get(app, "/logout", cookie=cookie)

    assert people(calls) == [("$identify", "7"), ("looked", "7"), ("left", "7")]
    assert [name for name, _ in quiet.headers if name.lower() == b"vary"] == []


def test_sources_follow_a_reload(on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """An app that has been built looks elsewhere with its next request."""
    calls = build(rules="users: {sources: dependency.member}\n")
    on(PostHogFastAPIInstrumentor)
    app = fastapi.FastAPI()

    def member() -> dict[str, int]:
        return {"id": 7}

    def owner() -> dict[str, int]:
        return {"id": 8}

    @app.get("/")
    def view(one: Any = fastapi.Depends(member), two: Any = fastapi.Depends(owner)) -> None:  # noqa: B008
        otel_posthog.capture("asked")

    get(app, "/")
    runtime = assembly.current()
    assert runtime is not None
    Path(runtime.settings.rules.path).write_text("users: {sources: dependency.owner}\n", encoding="utf-8")
    assembly.reload(runtime.settings)
    get(app, "/")

    assert people(calls) == [("asked", "7"), ("asked", "8")]


def test_an_app_in_an_app(on: Callable[..., Any], calls: Calls) -> None:
    """A mounted app has a chain of its own, and is part of the same visit."""
    on(PostHogFastAPIInstrumentor)
    on(PostHogStarletteInstrumentor)
    outer = fastapi.FastAPI(middleware=[Middleware(AuthenticationMiddleware, backend=Tokens())])
    inner = fastapi.FastAPI()
    outer.mount("/inner", inner)
    inner.mount("/most", Starlette(routes=[Route("/", look)]))

    with calls.app.tracer.start_as_current_span("GET", attributes={"posthog.event": "asked"}):
        get(outer, "/inner/most/", x_key="7")

    assert people(calls) == [("looked", "7"), ("left", "7"), ("asked", "7")]


def test_work_after_the_answer(on: Callable[..., Any], calls: Calls) -> None:
    """A background task is part of its request."""
    on(PostHogStarletteInstrumentor)

    async def order(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ordered", background=BackgroundTask(otel_posthog.capture, "sent"))

    app = Starlette(routes=[Route("/", order)], middleware=[Middleware(AuthenticationMiddleware, backend=Tokens())])
    get(app, "/", x_key="7")

    assert people(calls) == [("sent", "7")]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    ("error", "handled", "status", "captured"),
    [
        (ValueError, ValueError, 500, [("ValueError", True)]),
        (ValueError, ValueError, 400, []),
        (lambda: fastapi.HTTPException(503), fastapi.HTTPException, 503, []),
        (lambda: made_of(KeyError("colour")), fastapi.HTTPException, 500, [("KeyError", True)]),
        (lambda: made_of(fastapi.HTTPException(404)), fastapi.HTTPException, 500, []),
        (ValueError, Exception, 500, [("ValueError", False)]),
    ],
    ids=["swallowed", "answered", "kill switch", "made of an error", "made of an answer", "passed on"],
)
def test_errors_that_a_handler_answered(
    error: Callable[[], Exception],
    handled: type[Exception],
    status: int,
    captured: list[Any],
    traced: bool,
    on: Callable[..., Any],
    calls: Calls,
) -> None:
    """A server error made by a handler is captured with the live exception, once; answers to clients are not."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    on(PostHogFastAPIInstrumentor)
    app = fastapi.FastAPI()
    app.add_exception_handler(handled, lambda _request, _error: JSONResponse("sorry", status_code=status))

    @app.get("/")
    def view() -> None:
        raise error()

    if traced:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=calls.app.tracer_provider)
    assert get(app, "/").status == status
    # Starlette passes on what only its outermost layer handles: OpenTelemetry sees that, or the server's log.
    if handled is Exception and not traced:
        captured = []
    assert issues(calls) == captured


def made_of(error: Exception) -> Exception:
    """An answer that the app made of an error of its own."""
    answer = fastapi.HTTPException(500)
    answer.__cause__ = error
    return answer


def layers(app: Any) -> list[str]:
    """Names of the classes of a chain of middlewares."""
    found: list[str] = []
    while app is not None:
        found.append(type(app).__name__)
        app = getattr(app, "app", None)
    return found


@pytest.mark.parametrize(
    ("kind", "app_class"), [(PostHogStarletteInstrumentor, Starlette), (PostHogFastAPIInstrumentor, fastapi.FastAPI)]
)
def test_no_trace_is_left(kind: Any, app_class: Any, calls: Calls) -> None:
    """After `uninstrument` the classes are what they were, and apps that are built then have nothing of ours."""
    import fastapi.routing

    def anatomy() -> list[Any]:
        return [dict(vars(app_class)), fastapi.routing.solve_dependencies]

    before = anatomy()
    instrumentor = kind()
    instrumentor.instrument()
    app = app_class()
    assert {Edge.__name__, Inside.__name__} < set(layers(app.build_middleware_stack()))
    assert app.user_middleware == []
    instrumentor.uninstrument()

    assert anatomy() == before
    assert not {Edge.__name__, Inside.__name__} & set(layers(app.build_middleware_stack()))


def test_an_app_that_was_built_before(calls: Calls) -> None:
    """What stands in a chain already goes straight through after `uninstrument`."""
    instrumentor = PostHogStarletteInstrumentor()
    instrumentor.instrument()
    app = by_token()
    get(app, "/", x_key="7")
    instrumentor.uninstrument()
    get(app, "/", x_key="7", x_posthog_distinct_id=GRACE)

    assert people(calls)[-1] == ("left", "")


def test_it_never_breaks_the_app(on: Callable[..., Any], calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in us, requests are answered; it is counted."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    instrumentor = on(PostHogStarletteInstrumentor)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("sabotage")

    app = by_token()
    monkeypatch.setattr(instrumentor.at_work.people, "seen", broken)
    assert get(app, "/", x_key="7").status == 200
    monkeypatch.setattr(instrumentor.at_work.people, "arrive", broken)
    assert get(app, "/", x_key="7").status == 200

    assert calls.app.runtime.guard.counts() == {"instrumentation.starlette": 3}
    calls.app.runtime.guard.after_fork()
