"""`super_properties` and `scope`: what holds for a block, a function, a task, a generator."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from typing import Any

import pytest
from dirty_equals import IsFloat
from opentelemetry import context
from opentelemetry.trace import SpanKind

import otel_posthog
from otel_posthog.context import Ambient, current_work
from tests.unit.api.conftest import Calls


def areas(calls: Calls) -> list[tuple[str, Any]]:
    """Of each event its name and the super property."""
    return [(name, own.get("area")) for name, _, own in calls.said]


# --- super properties ------------------------------------------------------------------------------------------------


def test_a_block(calls: Calls) -> None:
    """Inside they hold, outside they do not; the inner block and the event itself win."""
    otel_posthog.capture("before")
    with otel_posthog.super_properties({"$area": "shop"}, area="shop", plan="pro"):
        otel_posthog.capture("outer")
        with otel_posthog.super_properties(area="billing"):
            otel_posthog.capture("inner")
            otel_posthog.capture("own", {"area": "own"})
    otel_posthog.capture("after")

    assert calls.said == [
        ("before", "", {}),
        ("outer", "", {"$area": "shop", "area": "shop", "plan": "pro"}),
        ("inner", "", {"$area": "shop", "area": "billing", "plan": "pro"}),
        ("own", "", {"$area": "shop", "area": "own", "plan": "pro"}),
        ("after", "", {}),
    ]


def test_super_properties_off(off: None) -> None:
    """Behind a shut gate blocks and functions run as they are, and the context stays the same."""
    before = context.get_current()

    @otel_posthog.super_properties(area="shop")
    def function() -> Any:
        return context.get_current()

    with otel_posthog.super_properties(area="shop"):
        assert context.get_current() is before
    assert function() is before


def test_other_carriers(calls: Calls) -> None:
    """Annotated spans and exceptions have them, too."""
    with otel_posthog.super_properties(area="shop"):
        with calls.app.tracer.start_as_current_span("x", attributes={"posthog.event": "annotated"}):
            pass
        otel_posthog.capture_exception(ValueError("no stock"))

    assert sorted(areas(calls)) == [("$exception", "shop"), ("annotated", "shop")]


def test_values_of_the_moment(calls: Calls) -> None:
    """What is changed later does not change what is stamped; odd values are converted."""
    values: dict[str, Any] = {"area": {"b", "a"}}
    with otel_posthog.super_properties(values):
        values["area"] = "other"
        otel_posthog.capture("x")

    assert areas(calls) == [("x", ["a", "b"])]


def test_no_mapping(calls: Calls) -> None:
    """What is no mapping stamps nothing, and is counted."""
    with otel_posthog.super_properties(["a"], area="shop"):  # type: ignore[arg-type]
        otel_posthog.capture("x")

    assert areas(calls) == [("x", "shop")]
    assert calls.misused == {"properties": 1}


def test_one_object_for_many(calls: Calls) -> None:
    """One object, made once, may be entered by several threads at once, and again inside of itself."""
    shop = otel_posthog.super_properties(area="shop")
    both = threading.Barrier(2)

    def work(name: str) -> None:
        with shop:
            both.wait(60)
            with shop:
                otel_posthog.capture(name)
            both.wait(60)
        otel_posthog.capture(f"{name} after")

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(areas(calls)) == [("a", "shop"), ("a after", None), ("b", "shop"), ("b after", None)]


def test_functions_of_each_kind(calls: Calls) -> None:
    """A function, a method of each kind and a coroutine function; names and signatures stay."""

    @otel_posthog.super_properties(area="plain")
    def plain(name: str) -> str:
        """Its own words."""
        otel_posthog.capture(name)
        return name

    class Shop:
        @otel_posthog.super_properties(area="method")
        def method(self) -> None:
            otel_posthog.capture("method")

        @otel_posthog.super_properties(area="static")
        @staticmethod
        def static() -> None:
            otel_posthog.capture("static")

        @classmethod
        @otel_posthog.super_properties(area="class")
        def cls(cls) -> None:
            otel_posthog.capture(f"{cls.__name__} class")

    @otel_posthog.super_properties(area="async")
    async def coroutine() -> None:
        await asyncio.sleep(0)
        otel_posthog.capture("coroutine")

    assert (plain("plain"), plain.__name__, plain.__doc__) == ("plain", "plain", "Its own words.")
    Shop().method()
    Shop().static()
    Shop.cls()
    assert asyncio.iscoroutinefunction(coroutine)
    asyncio.run(coroutine())

    assert areas(calls) == [
        ("plain", "plain"),
        ("method", "method"),
        ("static", "static"),
        ("Shop class", "class"),
        ("coroutine", "async"),
    ]


def test_a_generator(calls: Calls) -> None:
    """Its body has them, who reads it has not; what is sent, thrown and returned goes through."""

    @otel_posthog.super_properties(area="inside")
    def numbers() -> Iterator[Any]:
        otel_posthog.capture("begun")
        got = yield 1
        otel_posthog.capture(f"got {got}")
        try:
            yield 2
        except KeyError:
            otel_posthog.capture("caught")
        yield 3
        return "result"

    found = numbers()
    assert next(found) == 1
    otel_posthog.capture("reader")
    assert found.send("a letter") == 2  # type: ignore[attr-defined]
    assert found.throw(KeyError()) == 3  # type: ignore[attr-defined]
    with pytest.raises(StopIteration) as stop:
        next(found)

    assert stop.value.value == "result"
    assert areas(calls) == [("begun", "inside"), ("reader", None), ("got a letter", "inside"), ("caught", "inside")]


def test_an_async_generator(calls: Calls) -> None:
    """The same, in a task; other tasks have nothing of it."""

    @otel_posthog.super_properties(area="inside")
    async def numbers() -> AsyncIterator[Any]:
        otel_posthog.capture("begun")
        got = yield 1
        await asyncio.sleep(0)
        otel_posthog.capture(f"got {got}")
        try:
            yield 2
        except KeyError:
            otel_posthog.capture("caught")
        yield 3

    async def main() -> None:
        found: Any = numbers()
        assert await found.__anext__() == 1
        otel_posthog.capture("reader")
        assert await found.asend("a letter") == 2
        assert await found.athrow(KeyError()) == 3
        with pytest.raises(StopAsyncIteration):
            await found.__anext__()

    asyncio.run(main())

    assert areas(calls) == [("begun", "inside"), ("reader", None), ("got a letter", "inside"), ("caught", "inside")]


def test_closed_early(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """Generators that nobody reads to the end, closed by whoever comes along: no error, and nothing left behind."""
    before = context.get_current()
    ends: list[str] = []

    @otel_posthog.super_properties(area="inside")
    def numbers() -> Iterator[int]:
        try:
            yield 1
        finally:
            otel_posthog.capture("end of one")
            ends.append("sync")

    @otel_posthog.super_properties(area="inside")
    async def more() -> AsyncIterator[int]:
        with otel_posthog.super_properties(deep=True), otel_posthog.scope():
            try:
                yield 1
            finally:
                otel_posthog.capture("end of another")
                ends.append("async")

    for _ in numbers():
        break
    gc.collect()

    async def main() -> None:
        async for _ in more():
            break
        gc.collect()
        dropped: Any = more()
        await asyncio.create_task(dropped.__anext__())  # begun in one task, closed in another
        await dropped.aclose()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())

    assert ends == ["sync", "async", "async"]
    assert sorted(areas(calls)) == [("end of another", "inside")] * 2 + [("end of one", "inside")]
    assert [record.message for record in caplog.records] == []
    assert context.get_current() is before


def test_tasks_and_threads(calls: Calls) -> None:
    """Tasks that begin inside have them by themselves, threads with the context that they are given."""

    async def main() -> None:
        with otel_posthog.super_properties(area="shop"):
            task = asyncio.create_task(inside())
        async with otel_posthog.super_properties(area="async with"):
            otel_posthog.capture("async with")
        await task

    async def inside() -> None:
        await asyncio.sleep(0)
        otel_posthog.capture("task")

    asyncio.run(main())
    with otel_posthog.super_properties(area="shop"):
        thread = threading.Thread(target=copy_context().run, args=(otel_posthog.capture, "thread"))
        thread.start()
        thread.join(60)

    assert sorted(areas(calls)) == [("async with", "async with"), ("task", "shop"), ("thread", "shop")]


def test_exceptions_go_through(calls: Calls) -> None:
    """An exception leaves a block as the object that it is, and the properties end."""
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, otel_posthog.super_properties(area="shop"):
        raise error
    otel_posthog.capture("after")

    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert areas(calls) == [("after", None)]


# --- scope -----------------------------------------------------------------------------------------------------------


def test_a_loop_of_jobs(calls: Calls) -> None:
    """Each turn is its own work: nobody of the turn before, nobody of what is around."""
    otel_posthog.identify("admin")
    for user in ("ada", "", "bob"):
        with otel_posthog.scope():
            if user:
                otel_posthog.identify(user)
                otel_posthog.group("company", f"{user} ltd")
            otel_posthog.capture("mail sent")
    otel_posthog.capture("done")

    assert calls.said == [
        ("mail sent", "ada", {"$groups": {"company": "ada ltd"}}),
        ("mail sent", "", {}),
        ("mail sent", "bob", {"$groups": {"company": "bob ltd"}}),
        ("done", "admin", {}),
    ]


def test_jobs_inside_of_a_request(calls: Calls) -> None:
    """A scope in the middle of a request is somebody else's: neither says who the other is for, no span is marked."""
    with calls.app.tracer.start_as_current_span("poll", attributes={"user.id": "robot"}) as span:
        otel_posthog.capture("polled")
        for user in ("ada", ""):
            with otel_posthog.scope():
                if user:
                    otel_posthog.identify(user, set={"a": 1})
                    otel_posthog.group("company", "acme")
                otel_posthog.capture("handled")
    marks = dict(span.attributes)

    assert sorted(calls.said, key=str) == [
        ("$set", "ada", {"$set": {"a": 1}}),
        ("handled", "", {}),
        ("handled", "ada", {"$groups": {"company": "acme"}}),
        ("polled", "robot", {}),
    ]
    assert {key: marks[key] for key in marks if "posthog" in key.lower()} == {"posthogDistinctId": "robot"}


def test_a_request_inside_of_a_scope(calls: Calls) -> None:
    """A span that begins in a scope is about it: what is learnt late holds for what came before, as in any request."""
    with otel_posthog.scope(), calls.app.tracer.start_as_current_span("job") as span:
        otel_posthog.capture("early")
        otel_posthog.identify("ada")

    assert calls.said == [("early", "ada", {})]
    assert span.attributes["posthog.distinct_id"] == "ada"


def test_known_from_the_start(calls: Calls) -> None:
    """Whom it is for may be said at once; as a decorator, too."""

    @otel_posthog.scope(groups={"company": 5})
    async def job() -> None:
        await asyncio.sleep(0)
        otel_posthog.capture("job")
        otel_posthog.identify("bob")

    with otel_posthog.scope(distinct_id=7, groups={"company": "acme"}):
        otel_posthog.capture("x")
        asyncio.run(job())
        otel_posthog.capture("y")

    assert calls.said == [
        ("x", "7", {"$groups": {"company": "acme"}}),
        ("job", "", {"$groups": {"company": "5"}}),
        ("y", "7", {"$groups": {"company": "acme"}}),
    ]


def test_a_scope_of_nobody(calls: Calls) -> None:
    """What is no id is nobody; the block runs."""
    with otel_posthog.scope(distinct_id="anonymous", groups={"": "x"}):
        otel_posthog.capture("x")

    assert calls.said == [("x", "", {})]
    assert calls.misused == {"distinct_id": 1, "group": 1}


def test_scope_off(off: None) -> None:
    """Behind a shut gate a scope is nothing."""
    before = context.get_current()
    with otel_posthog.scope(distinct_id="ada"):
        assert context.get_current() is before
    assert current_work().ambient == Ambient()


# --- generators that hold what is their readers', too ----------------------------------------------------------------


def request(calls: Calls, name: str) -> Any:
    """A request as an instrumented server begins it: on top of whatever context its task has."""
    return calls.app.tracer.start_as_current_span(name, kind=SpanKind.SERVER)


async def leaking(person: str) -> AsyncIterator[int]:
    """Holds its scope for its readers, too, as `with` does in a generator."""
    with otel_posthog.scope():
        otel_posthog.identify(person)
        otel_posthog.capture("inside")
        yield 1
        yield 2


def test_a_leak_ends_with_its_request(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """A scope in the body of an async generator reaches nobody else's request: not of another task, nor, where one task
    serves a connection's requests in turn, the next, be the generator still open, closed by somebody, or forgotten.
    """
    kept: list[Any] = []
    hows = ("open", "closed elsewhere", "forgotten", "tasks", "around")

    async def visit(user: str, how: str) -> None:
        if how == "around" and user == "ada":
            source: Any = leaking("ada")  # by the server, and not in the request: nothing puts its context right
            await source.__anext__()
            kept.append(source)
            return
        with request(calls, user):
            if user == "ada":
                source = leaking("ada")
                await source.__anext__()
                if how == "open":
                    kept.append(source)
                elif how == "closed elsewhere":
                    await asyncio.create_task(source.aclose())
                return
            otel_posthog.capture(f"{user} {how}")
            with calls.app.tracer.start_as_current_span("x", attributes={"posthog.event": f"span {how}"}):
                pass

    async def connection(how: str) -> None:
        for user in ("ada", "nobody", "ada", "nobody"):
            await asyncio.create_task(visit(user, how)) if how == "tasks" else await visit(user, how)

    async def main() -> None:
        await asyncio.gather(*(connection(how) for how in hows))
        for source in kept:
            await source.aclose()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())

    assert sorted(calls.said, key=str) == sorted(
        [("inside", "ada", {})] * 10
        + [(f"nobody {how}", "", {}) for how in hows] * 2
        + [(f"span {how}", "", {"duration_ms": IsFloat}) for how in hows] * 2,
        key=str,
    )
    assert calls.misused == {"generator": 10}
    assert len([record for record in caplog.records if "decorate the generator instead" in record.message]) == 1


def test_a_decorated_generator_leaks_nothing(calls: Calls) -> None:
    """The right way: who reads has nothing of it, between any two of its values."""

    @otel_posthog.scope()
    async def people(person: str) -> AsyncIterator[int]:
        otel_posthog.identify(person)
        for number in range(2):
            otel_posthog.capture("inside")
            yield number

    async def main() -> None:
        async for _ in people("ada"):
            otel_posthog.capture("reader")

    asyncio.run(main())

    assert [(name, person) for name, person, _ in calls.said] == [("inside", "ada"), ("reader", "")] * 2
    assert calls.misused == {}


def test_context_managers_made_of_generators(calls: Calls) -> None:
    """There the reader is meant to be inside: it holds, and nobody complains."""

    @contextmanager
    def job(person: str) -> Iterator[None]:
        with otel_posthog.scope(distinct_id=person), otel_posthog.super_properties(area="jobs"):
            yield

    @asynccontextmanager
    async def later(person: str) -> AsyncIterator[None]:
        async with otel_posthog.scope(distinct_id=person), otel_posthog.super_properties(area="later"):
            yield

    async def main() -> None:
        async with later("bob"):
            otel_posthog.capture("y")

    with job("ada"):
        otel_posthog.capture("x")
    asyncio.run(main())

    assert calls.said == [("x", "ada", {"area": "jobs"}), ("y", "bob", {"area": "later"})]
    assert calls.misused == {}


def test_each_way_into_a_generator(calls: Calls) -> None:
    """Plain and async, `with` and `async with`, scopes and super properties: each is told."""

    def plain() -> Iterator[int]:
        with otel_posthog.super_properties(area="x"):
            yield 1

    async def by_async_with() -> AsyncIterator[int]:
        async with otel_posthog.scope():
            yield 1

    async def main() -> None:
        async for _ in by_async_with():
            pass

    assert list(plain()) == [1]
    asyncio.run(main())

    assert calls.misused == {"generator": 2}
