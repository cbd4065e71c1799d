"""Every public function, in every situation that its users get it into: on, off, after the end, and called wrongly."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import otel_posthog
from otel_posthog import assembly
from otel_posthog.emulator import Emulator
from tests.unit.api.conftest import Calls

PUBLIC = [name for name in otel_posthog.__all__ if name != "__version__"]


def _captured() -> Any:
    @otel_posthog.captured("worked", {"of": "captured"}, distinct_id="captured")
    def work() -> str:
        return "result"

    return work()


def _flush() -> Any:
    otel_posthog.capture("flushed", distinct_id="flush")
    return otel_posthog.flush(60.0)


def _reload() -> Any:
    done = otel_posthog.reload()
    otel_posthog.capture("reloaded", distinct_id="reload")
    return done


def _reset() -> Any:
    otel_posthog.identify("somebody")
    gone = otel_posthog.reset()
    otel_posthog.capture("left", {"of": "reset"})
    return gone


def _scope() -> Any:
    with otel_posthog.scope(distinct_id="scope"):
        return otel_posthog.capture("scoped") and None


def _shutdown() -> Any:
    otel_posthog.capture("shut down", distinct_id="shutdown")
    return otel_posthog.shutdown(60.0)


def _super_properties() -> Any:
    with otel_posthog.super_properties(of="super_properties"):
        return otel_posthog.capture("stamped", distinct_id="super_properties") and None


def _timed() -> Any:
    with otel_posthog.timed("timed", {"of": "timed"}, distinct_id="timed") as timing:
        pass
    return timing.uuid


# `shutdown` is the last one.
CALLS: dict[str, Callable[[], Any]] = {
    "alias": lambda: otel_posthog.alias("device-7", distinct_id="alias"),
    "capture": lambda: otel_posthog.capture(
        "captured",
        {"of": "capture"},
        distinct_id="capture",
        groups={"company": "acme"},
        set={"plan": "pro"},
        set_once={"first": 1},
        timestamp=datetime.now(timezone.utc),
    ),
    "capture_exception": lambda: otel_posthog.capture_exception(
        ValueError("no stock"), {"of": "capture_exception"}, distinct_id="capture_exception", groups={"company": "a"}
    ),
    "captured": _captured,
    "flush": _flush,
    "group": lambda: otel_posthog.group("company", "group", set={"size": 3}),
    "identify": lambda: otel_posthog.identify("identify", set={"plan": "pro"}, set_once={"first": 1}),
    "reload": _reload,
    "reset": _reset,
    "scope": _scope,
    "set_person": lambda: otel_posthog.set_person({"plan": "pro"}, {"first": 1}, distinct_id="set_person"),
    "super_properties": _super_properties,
    "timed": _timed,
    "unset_person": lambda: otel_posthog.unset_person("plan", distinct_id="unset_person"),
    "shutdown": _shutdown,
}
"""Each function in use, with all that it takes; whatever it sends is told by its name as person or as `of`."""

SENT = {
    "alias": ["$create_alias"],
    "capture": ["captured"],
    "capture_exception": ["$exception"],
    "captured": ["worked"],
    "flush": ["flushed"],
    "group": ["$groupidentify"],
    "identify": ["$set"],
    "reload": ["reloaded"],
    "reset": ["left"],
    "scope": ["scoped"],
    "set_person": ["$set"],
    "super_properties": ["stamped"],
    "timed": ["timed"],
    "unset_person": ["$set"],
    "shutdown": ["shut down"],
}
OFF = {**dict.fromkeys(PUBLIC), "captured": "result", "flush": True, "reload": False, "shutdown": True}
"""What each gives where it does nothing."""


def test_none_is_left_out() -> None:
    """A public function without a line in these tables fails here."""
    assert sorted(CALLS) == sorted(SENT) == sorted(OFF) == sorted(PUBLIC)


# --- off -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_off(name: str, off: None) -> None:
    """Behind a shut gate each call gives what it gives for nothing, and starts nothing."""
    before = set(threading.enumerate())  # those of other tests may end meanwhile

    assert CALLS[name]() == OFF[name]
    assert assembly.current() is None
    assert set(threading.enumerate()) <= before


# --- on: up to the wire ----------------------------------------------------------------------------------------------


def everything() -> dict[str, Any]:
    """Each function once, each in a context of its own; what it gave."""
    return {name: copy_context().run(call) for name, call in CALLS.items()}


def in_a_bare_thread(folder: Path) -> None:
    """A thread that has no context."""
    thread = threading.Thread(target=everything)
    thread.start()
    thread.join(120)


def at_import(folder: Path) -> None:
    """While a module is imported."""
    module = folder / "captures_at_import.py"
    module.write_text("from builtins import everything_of_a_test\n\neverything_of_a_test()\n", encoding="utf-8")
    import builtins

    builtins.everything_of_a_test = everything  # type: ignore[attr-defined]
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module("captures_at_import")
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("captures_at_import", None)
        del builtins.everything_of_a_test  # type: ignore[attr-defined]


def in_a_forked_child(folder: Path) -> None:
    """A child of a process that has captured, and is at work."""
    otel_posthog.capture("parent", distinct_id="parent")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            everything()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def in_an_async_generator_closed_early(folder: Path) -> None:
    """The end of a generator that nobody reads to its end; the loop closes it, in a task of its own."""

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            everything()

    async def main() -> None:
        source: Any = numbers()
        await asyncio.create_task(source.__anext__())
        del source
        gc.collect()

    asyncio.run(main())


SITUATIONS = [in_a_bare_thread, at_import, in_a_forked_child, in_an_async_generator_closed_early]


@pytest.fixture(name="posthog")
def local_posthog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A local PostHog that the variables name."""
    with Emulator() as posthog:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", posthog.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
        monkeypatch.setenv("OTEL_POSTHOG_MODE", "direct")
        yield posthog
        otel_posthog.shutdown(60.0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_on_the_wire(
    situation: Callable[[Path], None], posthog: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What each function makes arrives, once, wherever it is called; nothing is complained about."""
    with caplog.at_level(logging.WARNING, "otel_posthog"):
        situation(tmp_path)
    otel_posthog.shutdown(60.0)
    arrived: dict[str, list[str]] = {}
    for event in posthog.events():
        of = event["properties"].get("of") or event["properties"].get("$group_key") or event["distinct_id"]
        arrived.setdefault(of, []).append(event["event"])
    arrived.pop("parent", None)

    assert arrived == SENT
    assert [record.message for record in caplog.records] == []


# --- after the end ---------------------------------------------------------------------------------------------------

SILENT = {"flush", "reload", "scope", "shutdown", "super_properties"}
"""Those that lose nothing: what is captured in their blocks complains by itself."""
LATE: dict[str, Callable[[], Any]] = {
    **CALLS,
    "flush": lambda: otel_posthog.flush(),
    "reload": lambda: otel_posthog.reload(),
    "reset": lambda: otel_posthog.reset(),
    "scope": lambda: otel_posthog.scope(distinct_id="ada")(lambda: None)(),
    "shutdown": lambda: otel_posthog.shutdown(),
    "super_properties": lambda: otel_posthog.super_properties(a=1)(lambda: None)(),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_after_the_end(name: str, calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """After the shutdown each call gives what it gives for nothing, is counted, and is complained about once."""
    from otel_posthog.api.process import process

    otel_posthog.capture("before", distinct_id="ada")
    assert otel_posthog.shutdown(60.0) is True
    with caplog.at_level(logging.WARNING, "otel_posthog"):
        found = [LATE[name]() for _ in range(3)]

    assert found == [OFF[name]] * 3
    assert [event.event for event in calls.app.delivery.events] == ["before"]
    complaints = [record.message for record in caplog.records]
    if name in SILENT:
        assert (process.guard.misuses(), complaints) == ({}, [])
    else:
        assert process.guard.misuses() == {"after_shutdown": 3}
        assert len(complaints) == 1
        assert "after the shutdown" in complaints[0]


# --- wrong calls -----------------------------------------------------------------------------------------------------


class Mute:
    """Nothing that JSON can hold, and no text of its own."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Hostile(dict):  # type: ignore[type-arg]
    """A mapping that cannot be read."""

    def items(self) -> Any:
        """Fails."""
        raise RuntimeError("not today")

    __iter__ = keys = values = items  # type: ignore[assignment]


def _use(around: Any) -> Any:
    with around:
        pass


def _decorated(**arguments: Any) -> Any:
    return otel_posthog.captured(**{"event": "x", "distinct_id": "ada", **arguments})(lambda: None)()


P = functools.partial
_mapping = (5, "text", ["a"], Hostile({"a": 1}))
_ids = ("", "anonymous", "null", object(), True, float("nan"), ["ada"], b"")
_capture = P(otel_posthog.capture, event="x", distinct_id="ada")
_exception = P(lambda **arguments: otel_posthog.capture_exception(**{"error": ValueError("x"), **arguments}))
_timed_use = P(lambda **arguments: _use(otel_posthog.timed(**{"event": "x", "distinct_id": "ada", **arguments})))

WRONG: list[tuple[str, str, Callable[..., Any], tuple[Any, ...], str]] = [
    ("alias", "alias", otel_posthog.alias, _ids, "distinct_id"),
    ("alias", "distinct_id", P(otel_posthog.alias, "device-7"), _ids, "distinct_id"),
    ("capture", "event", otel_posthog.capture, (None, "", "  ", 5, object(), b"x", ["x"]), "event"),
    ("capture", "properties", _capture, _mapping, "properties"),
    ("capture", "properties", _capture, ({"a": Mute()}, {"a": [{"b": Mute()}]}), "value"),
    ("capture", "properties", _capture, ({5: 1}, {None: 1}, {("a",): 1}), "property_name"),
    ("capture", "distinct_id", P(otel_posthog.capture, "x"), _ids, "distinct_id"),
    ("capture", "groups", _capture, _mapping, "groups"),
    ("capture", "groups", _capture, ({"": 1}, {"a.b": 1}, {"company": None}, {5: Mute()}), "group"),
    ("capture", "set", _capture, _mapping, "set"),
    ("capture", "set_once", _capture, _mapping, "set_once"),
    ("capture", "timestamp", _capture, ("tomorrow", object(), -1, float("inf"), True, "2026-01-01"), "timestamp"),
    ("capture_exception", "error", otel_posthog.capture_exception, ("text", 5, ValueError, (1, 2)), "exception"),
    ("capture_exception", "properties", _exception, _mapping, "properties"),
    ("capture_exception", "distinct_id", _exception, _ids, "distinct_id"),
    ("capture_exception", "groups", _exception, _mapping, "groups"),
    ("captured", "event", _decorated, (None, "", 5), "event"),
    ("captured", "properties", _decorated, _mapping, "properties"),
    ("captured", "properties", _decorated, (lambda: 1 / 0, lambda wrong: wrong), "captured_function"),
    ("captured", "distinct_id", _decorated, ("", "null", object(), lambda: ""), "distinct_id"),
    ("captured", "distinct_id", _decorated, (lambda: 1 / 0,), "captured_function"),
    ("captured", "groups", _decorated, (*_mapping, lambda: 5), "groups"),
    ("flush", "timeout", otel_posthog.flush, (None, "soon", float("nan"), object()), "timeout"),
    ("group", "type", P(otel_posthog.group, key="acme"), (None, "", "a.b", object(), ["a"]), "group"),
    ("group", "key", P(otel_posthog.group, "company"), (None, "", object(), True, ["a"], b""), "group"),
    ("group", "set", P(otel_posthog.group, "company", "acme"), _mapping, "set"),
    ("identify", "distinct_id", otel_posthog.identify, _ids, "distinct_id"),
    ("identify", "set", P(otel_posthog.identify, "ada"), _mapping, "set"),
    ("identify", "set_once", P(otel_posthog.identify, "ada"), _mapping, "set_once"),
    ("scope", "distinct_id", lambda **arguments: _use(otel_posthog.scope(**arguments)), _ids, "distinct_id"),
    ("scope", "groups", lambda **arguments: _use(otel_posthog.scope(**arguments)), _mapping, "groups"),
    ("set_person", "set", P(otel_posthog.set_person, distinct_id="ada"), _mapping, "set"),
    ("set_person", "set_once", P(otel_posthog.set_person, distinct_id="ada"), _mapping, "set_once"),
    ("set_person", "distinct_id", P(otel_posthog.set_person, {"a": 1}), _ids, "distinct_id"),
    ("shutdown", "timeout", otel_posthog.shutdown, ("soon", float("nan"), object()), "timeout"),
    (
        "super_properties",
        "properties",
        lambda properties: _use(otel_posthog.super_properties(properties)),
        _mapping,
        "properties",
    ),
    ("super_properties", "named", lambda named: _use(otel_posthog.super_properties(a=named)), (Mute(),), "value"),
    ("timed", "event", _timed_use, (None, "", 5), "event"),
    ("timed", "properties", _timed_use, _mapping, "properties"),
    ("timed", "distinct_id", _timed_use, ("", "null", object()), "distinct_id"),
    ("timed", "groups", _timed_use, _mapping, "groups"),
    ("unset_person", "names", lambda names: otel_posthog.unset_person(names), (5, None, object(), b"x"), "unset"),
    ("unset_person", "distinct_id", P(otel_posthog.unset_person, "plan"), _ids, "distinct_id"),
]


def test_no_argument_is_left_out() -> None:
    """Each argument of each public function has a line among the wrong calls."""
    arguments = {
        (name, argument) for name in PUBLIC for argument in inspect.signature(getattr(otel_posthog, name)).parameters
    }
    assert {(name, argument) for name, argument, *_ in WRONG} == arguments


@pytest.mark.parametrize(
    ("argument", "call", "value", "kind"),
    [
        pytest.param(argument, call, value, kind, id=f"{name}-{argument}-{kind}-{number}")
        for name, argument, call, values, kind in WRONG
        for number, value in enumerate(values)
    ],
)
def test_a_wrong_call(
    argument: str,
    call: Callable[..., Any],
    value: Any,
    kind: str,
    calls: Calls,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No exception, a count each time, one warning that says what is wrong; other calls go on as ever."""
    times = 1 if call is otel_posthog.shutdown else 3
    with caplog.at_level(logging.WARNING, "otel_posthog"):
        for _ in range(times):
            copy_context().run(lambda: call(**{argument: value}))
        if times > 1:
            otel_posthog.capture("after", distinct_id="ada")
            assert calls.events[-1].event == "after"

    assert calls.misused == {kind: times}
    (complaint,) = [record.message for record in caplog.records]
    assert complaint.startswith("otel-posthog: ")
