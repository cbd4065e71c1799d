"""`timed` and `captured`: outcome and duration of work of every kind."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from dirty_equals import IsFloat

import otel_posthog
from otel_posthog.api.process import process
from otel_posthog.observe import Guard
from tests.unit.api.conftest import Calls

TOOK = IsFloat(ge=0, lt=600_000)
SUCCESS = {"success": True, "duration_ms": TOOK}


def failed(name: str) -> dict[str, Any]:
    """What a failure says."""
    return {"success": False, "duration_ms": TOOK, "exception_type": name}


# --- timed -----------------------------------------------------------------------------------------------------------


def test_a_block(calls: Calls) -> None:
    """A block that ends well; properties may be added while it runs."""
    with otel_posthog.timed("report built", {"format": "pdf"}, distinct_id="ada", groups={"company": 5}) as timing:
        timing.properties["rows"] = 3

    assert calls.said == [("report built", "ada", {"format": "pdf", "rows": 3, "$groups": {"company": "5"}, **SUCCESS})]
    assert [event.uuid for event in calls.events] == [timing.uuid]


def test_timed_off(off: None) -> None:
    """Behind a shut gate the block runs, and its properties may be written to."""
    with otel_posthog.timed("x", {"a": 1}) as timing:
        timing.properties["rows"] = 3
    assert timing.uuid is None


def test_a_block_that_fails(calls: Calls) -> None:
    """The exception goes on as it is; the event says its type and nothing of its text."""
    error = KeyError("secret")
    with pytest.raises(KeyError) as caught, otel_posthog.timed("x", distinct_id="ada"):
        raise error

    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert calls.said == [("x", "ada", failed("KeyError"))]


def test_a_failure_without_an_exception(calls: Calls) -> None:
    """What the block says about its outcome wins."""
    with otel_posthog.timed("x") as timing:
        timing.properties["success"] = False

    assert calls.said == [("x", "", {"success": False, "duration_ms": TOOK})]


@pytest.mark.parametrize("properties", [None, 7, ["rows"]])
def test_properties_that_are_none(calls: Calls, properties: Any) -> None:
    """What a block puts in the place of its properties costs them, and never the outcome."""
    with otel_posthog.timed("x", {"a": 1}) as timing:
        timing.properties = properties

    assert calls.said == [("x", "", SUCCESS)]


def test_who_is_learnt_inside(calls: Calls) -> None:
    """The event is whose the work turned out to be."""
    with otel_posthog.timed("login"):
        otel_posthog.identify("ada")

    assert calls.said == [("login", "ada", SUCCESS)]


@pytest.mark.parametrize(("code", "outcome"), [(0, SUCCESS), (None, SUCCESS), (1, failed("SystemExit"))])
def test_an_exit(calls: Calls, code: Any, outcome: dict[str, Any]) -> None:
    """`sys.exit()` is a good end, `sys.exit(1)` is none."""
    with pytest.raises(SystemExit), otel_posthog.timed("x"):
        sys.exit(code)

    assert calls.said == [("x", "", outcome)]


def test_async_with_and_cancelled(calls: Calls) -> None:
    """A task that is cancelled inside did not succeed."""

    async def main() -> None:
        async with otel_posthog.timed("good"):
            await asyncio.sleep(0)

        async def waits() -> None:
            async with otel_posthog.timed("cancelled"):
                await asyncio.Event().wait()

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert calls.said == [("good", "", SUCCESS), ("cancelled", "", failed("CancelledError"))]


@pytest.mark.parametrize("event", [None, "", 7])
def test_no_name(calls: Calls, event: Any) -> None:
    """Without a name the block runs, and nothing is captured."""
    with otel_posthog.timed(event):
        pass

    assert calls.said == []
    assert calls.misused == {"event": 1}


# --- captured --------------------------------------------------------------------------------------------------------


def test_a_function(calls: Calls) -> None:
    """Its result is given back, its arguments are not in the event."""

    @otel_posthog.captured("charge completed")
    def charge(amount: int, *, card: str) -> int:
        """Charges."""
        return amount * 2

    assert charge(5, card="4242") == 10
    assert (charge.__name__, charge.__doc__, list(inspect.signature(charge).parameters)) == (
        "charge",
        "Charges.",
        ["amount", "card"],
    )
    assert calls.said == [("charge completed", "", SUCCESS)]


def test_captured_off(off: None) -> None:
    """Behind a shut gate functions of each kind run, and nothing is asked of their arguments."""

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    wrap = otel_posthog.captured("x", never, distinct_id=never)

    @wrap
    def plain() -> int:
        return 1

    @wrap
    async def coroutine() -> int:
        return 1

    @wrap
    def generator() -> Iterator[int]:
        yield 1

    @wrap
    async def async_generator() -> AsyncIterator[int]:
        yield 1

    async def main() -> list[int]:
        return [await coroutine(), *[number async for number in async_generator()]]

    assert [plain(), *generator(), *asyncio.run(main())] == [1, 1, 1, 1]


def test_properties_and_what_is_no_function(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property is a method, whichever decorator is the outer one; of anything else it is said that it is none."""
    monkeypatch.setattr(process, "guard", Guard())

    class Shop:
        @otel_posthog.captured("outside")
        @property
        def outside(self) -> int:
            """Documented."""
            return 1

        @property
        @otel_posthog.captured("inside")
        def inside(self) -> int:
            return 2

        @otel_posthog.captured("cached")
        @functools.cached_property
        def cached(self) -> int:
            return 3

    shop = Shop()
    assert (shop.outside, shop.inside, shop.cached, Shop.outside.__doc__) == (1, 2, 3, "Documented.")
    assert [name for name, _, _ in calls.said] == ["outside", "inside"]
    assert process.guard.misuses() == {"decorated": 1}


def test_from_the_arguments(calls: Calls) -> None:
    """What is wanted of the arguments is said by functions of the same arguments, as they were at the start."""

    class Shop:
        @otel_posthog.captured(
            "charge completed",
            lambda _self, lines, *, user, company: {"lines": lines, "total": len(lines)},
            distinct_id=lambda _self, _lines, *, user, company: user,
            groups=lambda *_, company, **__: {"company": company},
        )
        def charge(self, lines: list[str], *, user: int, company: str) -> None:
            lines.clear()

    Shop().charge(["mug", "plate"], user=7, company="acme")

    assert calls.said == [
        (
            "charge completed",
            "7",
            {"lines": ["mug", "plate"], "total": 2, "$groups": {"company": "acme"}, **SUCCESS},
        )
    ]


def test_functions_that_do_not_fit(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """One that fails, or gives no mapping, costs the properties: never the call, never the event."""

    @otel_posthog.captured("x", lambda: {"a": 1}, distinct_id=lambda _: 1 / 0)
    def function(argument: int) -> int:
        return argument

    @otel_posthog.captured("y", lambda argument: argument)
    def other(argument: int) -> int:
        return argument

    with caplog.at_level(logging.WARNING):
        assert (function(1), other(2)) == (1, 2)

    assert calls.said == [("x", "", SUCCESS), ("y", "", SUCCESS)]
    assert calls.misused == {"captured_function": 2, "properties": 1}
    assert "reads the arguments for the event 'x' failed (TypeError)" in caplog.text


def test_a_function_that_fails(calls: Calls) -> None:
    """The very object goes on, also from a coroutine."""
    error = KeyError("secret")

    @otel_posthog.captured("x")
    def function() -> None:
        raise error

    @otel_posthog.captured("y")
    async def coroutine() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(KeyError) as caught:
        function()
    with pytest.raises(KeyError) as again:
        asyncio.run(coroutine())

    assert caught.value is again.value is error
    assert error.__context__ is None
    assert calls.said == [("x", "", failed("KeyError")), ("y", "", failed("KeyError"))]


def test_a_generator(calls: Calls) -> None:
    """From the first item to the last; one that is never begun has not happened."""

    @otel_posthog.captured("export", lambda rows: {"rows": rows})
    def export(rows: int) -> Iterator[int]:
        yield from range(rows)

    export(9)
    assert list(export(3)) == [0, 1, 2]
    assert inspect.isgeneratorfunction(export)

    assert calls.said == [("export", "", {"rows": 3, **SUCCESS})]


def test_generators_that_fail(calls: Calls) -> None:
    """By themselves, or by what is thrown into them."""

    @otel_posthog.captured("export")
    def export() -> Iterator[int]:
        yield 1
        raise KeyError

    @otel_posthog.captured("stream")
    async def stream() -> AsyncIterator[int]:
        yield 1
        raise KeyError

    async def read() -> None:
        async for _ in stream():
            pass

    with pytest.raises(KeyError):
        list(export())
    thrown: Any = export()
    next(thrown)
    with pytest.raises(ValueError, match="from outside"):
        thrown.throw(ValueError("from outside"))
    with pytest.raises(KeyError):
        asyncio.run(read())

    assert calls.said == [
        ("export", "", failed("KeyError")),
        ("export", "", failed("ValueError")),
        ("stream", "", failed("KeyError")),
    ]


def test_closed_early(calls: Calls) -> None:
    """Whoever reads it has enough: no failure, and one event, in whichever way it is closed."""
    early = {**SUCCESS, "closed_early": True}

    @otel_posthog.captured("export")
    def export() -> Iterator[int]:
        yield 1
        yield 2

    @otel_posthog.captured("stream")
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)

    async def main() -> None:
        async for _ in stream():
            break
        gc.collect()
        dropped: Any = stream()
        await asyncio.create_task(dropped.__anext__())
        await dropped.aclose()

    for _ in export():
        break
    gc.collect()
    asyncio.run(main())

    assert calls.said == [("export", "", early), ("stream", "", early), ("stream", "", early)]


def test_a_block_in_a_generator_that_somebody_else_closes(calls: Calls) -> None:
    """A block that is left in another task than it was entered in is an event like any other."""

    async def stream() -> AsyncIterator[int]:
        with otel_posthog.timed("stream"):
            yield 1

    async def main() -> None:
        begun: Any = stream()
        await asyncio.create_task(begun.__anext__())
        await begun.aclose()

    asyncio.run(main())

    assert calls.said == [("stream", "", {**SUCCESS, "closed_early": True})]


def test_closing_that_fails(calls: Calls) -> None:
    """A generator whose cleaning up fails says so, and its exception goes on."""

    @otel_posthog.captured("export")
    def export() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise KeyError

    begun: Any = export()
    next(begun)
    with pytest.raises(KeyError):
        begun.close()

    assert calls.said == [("export", "", failed("KeyError"))]


def test_recursion_and_partials(calls: Calls) -> None:
    """Each call is an event of its own; objects that can be called are as good as functions."""

    @otel_posthog.captured("step", lambda depth: {"depth": depth})
    def step(depth: int) -> int:
        return depth if depth == 0 else step(depth - 1)

    class Job:
        async def __call__(self) -> int:
            return 3

    async def plus(a: int, b: int) -> int:
        return a + b

    step(2)
    assert asyncio.run(otel_posthog.captured("job")(Job())()) == 3
    assert asyncio.run(otel_posthog.captured("sum")(functools.partial(plus, 1))(2)) == 3

    assert [(name, own.get("depth")) for name, _, own in calls.said] == [
        ("step", 0),
        ("step", 1),
        ("step", 2),
        ("job", None),
        ("sum", None),
    ]


def test_without_a_name(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """`@captured` without a name leaves the function as it is, and says how it is written."""
    from otel_posthog.api.process import process

    with caplog.at_level(logging.WARNING):

        @otel_posthog.captured
        def function() -> int:
            return 7

    assert function() == 7
    assert calls.said == []
    assert process.guard.misuses() == {"captured_function": 1}
    assert 'write @captured("name of the event")' in caplog.text


def test_what_is_no_function(calls: Calls) -> None:
    """A class, or something that cannot be called, stays what it is."""

    class Thing:
        pass

    assert otel_posthog.captured("x")(Thing) is Thing
    assert otel_posthog.captured("x")(7) == 7  # type: ignore[type-var]
    assert calls.events == []
