"""Celery: what travels with a message, and for how long it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context

import otel_posthog
from otel_posthog.context import Ambient, attach_properties, current_work, working
from otel_posthog.instrumentation.celery import HEADER, PostHogCeleryInstrumentor, packed, unpacked
from tests.unit.api.conftest import Calls

celery = pytest.importorskip("celery")
signals = pytest.importorskip("celery.signals")

names = st.text(min_size=1, max_size=20)
ambients = st.builds(
    Ambient,
    distinct_id=names | st.just(""),
    anonymous_id=names | st.just(""),
    session_id=names | st.just(""),
    window_id=names | st.just(""),
    groups=st.dictionaries(names, names, max_size=3),
    flags=st.dictionaries(names, names | st.booleans(), max_size=3),
    properties=st.dictionaries(names, names | st.integers() | st.booleans() | st.none(), max_size=3),
    nobody=st.booleans(),
)


@given(ambients)
def test_there_and_back(ambient: Ambient) -> None:
    """What is packed is unpacked."""
    assert unpacked(packed(ambient)) == ambient


@pytest.mark.parametrize(
    "said", [None, 7, "", "{", "[]", '"a"', '{"person": 7, "groups": [], "flags": 1, "nobody": "yes"}']
)
def test_headers_of_others(said: Any) -> None:
    """What is none of ours says nothing."""
    assert unpacked(said) == Ambient()


def test_a_header_is_never_long() -> None:
    """Super properties stay behind where they are too long; the person goes along."""
    ambient = Ambient(distinct_id="ada", groups={"company": "acme"}, properties={"basket": "x" * 20_000})

    assert unpacked(packed(ambient)) == Ambient(distinct_id="ada", groups={"company": "acme"})
    assert packed(Ambient()) == ""


def tasks() -> Any:
    """An app with a broker in memory."""
    app = celery.Celery("shop", broker="memory://", set_as_current=False)

    @app.task(name="charge")
    def charge() -> None:
        otel_posthog.capture("charged")

    return app, charge


def test_what_is_sent(on: Callable[..., Any], calls: Calls) -> None:
    """Person, groups and super properties of the call are in the message's header."""
    on(PostHogCeleryInstrumentor)
    app, charge = tasks()
    sent: list[Any] = []
    signals.before_task_publish.connect(
        lambda headers, **_: sent.append(dict(headers)), weak=False, dispatch_uid="test"
    )
    try:
        with working(Ambient(distinct_id="ada")), attach_properties({"plan": "pro"}):
            otel_posthog.group("company", "acme")
            charge.delay()
        charge.delay()
    finally:
        signals.before_task_publish.disconnect(dispatch_uid="test")
        app.close()

    assert unpacked(sent[0][HEADER]) == Ambient(
        distinct_id="ada", groups={"company": "acme"}, properties={"plan": "pro"}
    )
    assert HEADER not in sent[1]


def test_a_task_that_runs_at_once(on: Callable[..., Any], calls: Calls) -> None:
    """In its caller's place it is for whoever the caller is for, and what it learns ends with it."""
    on(PostHogCeleryInstrumentor)
    app, _ = tasks()

    @app.task(name="claim")
    def claim() -> None:
        otel_posthog.capture("claimed")
        otel_posthog.identify("grace")

    with working(Ambient(distinct_id="ada")):
        before = context.get_current()
        claim.apply()
        assert context.get_current() == before
        assert current_work().ambient.distinct_id == "ada"
    claim.apply()
    app.close()

    assert [(name, person) for name, person, _ in calls.said] == [("claimed", "ada"), ("claimed", "")]


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_inside_of_opentelemetry(first: str, on: Callable[..., Any], calls: Calls) -> None:
    """OpenTelemetry replaces the context for each task, whichever was instrumented first: the visit begins inside."""
    from opentelemetry.instrumentation.celery import CeleryInstrumentor

    theirs = CeleryInstrumentor()
    if first == "theirs":
        theirs.instrument(tracer_provider=calls.app.tracer_provider)
    on(PostHogCeleryInstrumentor)
    if first == "ours":
        theirs.instrument(tracer_provider=calls.app.tracer_provider)
    try:
        app, charge = tasks()
        with working(Ambient(distinct_id="ada")):
            before = context.get_current()
            charge.apply(headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
            assert context.get_current() == before
        app.close()
    finally:
        theirs.uninstrument()

    assert [(name, person) for name, person, _ in calls.said] == [("charged", "ada")]


def test_no_trace_is_left(calls: Calls) -> None:
    """After `uninstrument` signals and functions are what they were, and so are tasks."""
    import celery.app.trace as module

    app, charge = tasks()

    def anatomy() -> list[Any]:
        each = (signals.before_task_publish, signals.task_prerun, signals.task_postrun, signals.worker_init)
        kept = {name: value for name, value in vars(charge).items() if "posthog" in name}
        return [[list(signal.receivers) for signal in each], module.build_tracer, kept]

    before = anatomy()
    instrumentor = PostHogCeleryInstrumentor()
    instrumentor.instrument()
    charge.apply()
    assert anatomy() != before
    instrumentor.uninstrument()
    app.close()

    assert anatomy() == before


def test_it_never_breaks_a_task(on: Callable[..., Any], calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in us, tasks are sent and run; it is counted."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    on(PostHogCeleryInstrumentor)

    def broken(*_: Any) -> None:
        raise RuntimeError("sabotage")

    for name in ("_at_hand", "unpacked"):
        monkeypatch.setattr(f"otel_posthog.instrumentation.celery.{name}", broken)
    app, charge = tasks()
    charge.delay()
    assert charge.apply().successful()
    app.close()

    assert calls.app.runtime.guard.counts() == {"instrumentation.celery": 2}
    calls.app.runtime.guard.after_fork()
