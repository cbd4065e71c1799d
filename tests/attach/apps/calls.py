"""Calls in processes of many kinds.

Usage: calls.py NAME
"""

import sys

if sys.argv[1] in ("gevent", "gevent_late"):
    import gevent
    from gevent import monkey

    if sys.argv[1] == "gevent_late":
        import otel_posthog

        otel_posthog.capture("before the patch")  # our thread loads what it needs while the locks are replaced
    monkey.patch_all()

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from calls_imported import AT_IMPORT
from opentelemetry import trace

import otel_posthog

tracer = trace.get_tracer("calls")


def imports():
    """A module has captured while it was imported."""
    assert AT_IMPORT is not None
    otel_posthog.capture("later")


def off():
    """The gate is shut: no thread, no event, every call returns."""
    assert AT_IMPORT is None
    with tracer.start_as_current_span("request"), otel_posthog.scope(), otel_posthog.super_properties(a=1):
        assert otel_posthog.identify("ada", set={"a": 1}) is None
        assert otel_posthog.group("company", "acme", set={"a": 1}) is None
        assert otel_posthog.capture("x") is None
        assert otel_posthog.capture_exception(ValueError()) is None
        with otel_posthog.timed("x"):
            pass
    assert otel_posthog.flush() is True
    assert [thread.name for thread in threading.enumerate() if "posthog" in thread.name] == []


def everything():
    """Each call once, in a request."""
    with tracer.start_as_current_span("request"):
        otel_posthog.capture("early", {"a": 1})
        otel_posthog.identify("ada", set={"plan": "pro"}, set_once={"first": 1})
        otel_posthog.group("company", "acme", set={"seats": 3})
        with otel_posthog.super_properties(area="billing"), otel_posthog.timed("report built"):
            otel_posthog.capture(
                "order paid", {"total": 29.5, "lines": [{"sku": "mug"}], "none": None}, set={"seen": True}
            )
        otel_posthog.set_person({"seats": 5})
        otel_posthog.unset_person("trial")
        otel_posthog.alias("device-7")
        try:
            {}["card"]
        except KeyError:
            otel_posthog.capture_exception(properties={"step": "checkout"})
        otel_posthog.reset()
        otel_posthog.capture("goodbye")


def threads():
    """Threads of a pool with no context, and one that is at work when the program ends."""
    with tracer.start_as_current_span("request"):
        otel_posthog.identify("ada")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: otel_posthog.capture("pooled", {"number": number}), range(8)))
    threading.Thread(target=otel_posthog.capture, args=("last",)).start()


def tasks():
    """Tasks follow the work they were started in."""

    async def request(person):
        with otel_posthog.scope():
            otel_posthog.identify(person)
            await asyncio.gather(*(work() for _ in range(3)))

    async def work():
        await asyncio.sleep(0)
        otel_posthog.capture("done")

    async def main():
        await asyncio.gather(*(request(person) for person in ("ada", "bob")))

    asyncio.run(main())


def forks():
    """Each process captures for itself."""
    otel_posthog.capture("parent before")
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            otel_posthog.capture(f"child {number}")
            otel_posthog.flush(60)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=otel_posthog.capture, args=("of multiprocessing",))
    process.start()
    process.join()
    otel_posthog.capture("parent after")


def green():
    """Greenlets, each with its own person."""

    def work(number):
        with otel_posthog.scope():
            otel_posthog.identify(f"user-{number}")
            gevent.sleep(0)
            otel_posthog.capture("done")

    gevent.joinall([gevent.spawn(work, number) for number in range(20)], raise_error=True)
    if sys.argv[1] == "gevent_late":
        # See late_patching.py: an interpreter may not survive its end, with or without us.
        assert otel_posthog.flush(60)
        os._exit(0)


LIVES = {
    "imports": imports,
    "off": off,
    "everything": everything,
    "threads": threads,
    "tasks": tasks,
    "forks": forks,
    "gevent": green,
    "gevent_late": green,
}
LIVES[sys.argv[1]]()
