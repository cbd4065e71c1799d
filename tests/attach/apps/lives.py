"""Short lives of a process, each ending in its own way.

Usage: lives.py NAME
"""

import atexit
import logging
import multiprocessing
import os
import signal
import sys
import threading

from opentelemetry import trace


def capture(name, person="ada"):
    with trace.get_tracer("lives").start_as_current_span(
        "work", attributes={"posthog.event": name, "posthog.distinct_id": person}
    ):
        pass


def exits():
    """Ends spans in handlers that run before and after ours."""
    capture("before")


def from_early_handler():
    capture("in a handler")


def forks():
    """Parent and children capture; each delivers its own, before and after the fork."""
    capture("parent before")
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            capture(f"child {number}")
            sys.exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    capture("parent after")


def processes():
    """`multiprocessing` children by fork end with `os._exit`, but not before their finalizers."""
    capture("parent before")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=capture, args=(f"worker {number}",)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def spawned():
    """Children by spawn are fresh interpreters, which attach by themselves."""
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=capture, args=("spawned",))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    capture("parent")


def os_exit():
    """Flushes what it must keep; `os._exit` loses only the rest."""
    capture("kept")
    trace.get_tracer_provider().force_flush()
    capture("tail")
    os._exit(3)


def raises():
    """Ends by an exception."""
    capture("before the end")
    raise RuntimeError("the end")


def waits():
    """Says so, and waits for a signal."""
    capture("before the signal")
    print("ready", flush=True)
    threading.Event().wait(60)


def handles():
    """Has its own SIGTERM handler, which is none of our business."""

    def mine(number, frame):
        print("mine", flush=True)
        sys.exit(7)

    signal.signal(signal.SIGTERM, mine)
    waits()


def twice():
    """Initialises again, as old advice says."""
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    initialize()
    capture("once")


def threads():
    """Captures in threads."""
    workers = [threading.Thread(target=capture, args=(f"thread {number}",)) for number in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def late():
    """Sets its own provider, long after start-up; tracers from before it count too."""
    early = trace.get_tracer("early")
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    set_logger_provider(LoggerProvider())
    with early.start_as_current_span("x", attributes={"posthog.event": "early tracer", "posthog.distinct_id": "ada"}):
        pass
    capture("late provider")
    from opentelemetry._logs import get_logger

    get_logger("late").emit(event_name="from a log", attributes={"posthog.event": "log", "posthog.distinct_id": "ada"})


def nothing():
    """Captures nothing: who has nothing to send opens nothing."""


def no_sdk_but_ours():
    """Runs where no distribution is installed."""
    capture("span")
    logging.getLogger("lives").warning("x", extra={"posthog.event": "log line", "posthog.distinct_id": "ada"})


if __name__ == "__main__":
    atexit.register(from_early_handler) if sys.argv[1] == "exits" else None
    globals()[sys.argv[1]]()
