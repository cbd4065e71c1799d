"""`Work`: one request, job, message or script run, shared by everything that it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Final

from opentelemetry import context, trace

from otel_posthog.context.ambient import NOTHING, WORK, Ambient
from otel_posthog.context.properties import since_the_end
from otel_posthog.context.traces import traces

KEY: Final = WORK
_PATIENCE: Final = 1.0
"""Seconds until a change is made without the lock."""
OUTLIVES: Final = 600.0
"""Seconds for which what a request has started may outlive it, and still be its person's, where nobody says otherwise.
"""
_MERGED: Final = ("groups", "flags", "properties")


class Work:
    """What one unit of work has learnt. Safe in any thread: changes are made under a lock, reads see one `Ambient`.

    Args:
        ambient: What is known at the start.
        trace_id: The trace that it began in; 0 for none.
        managed: It ends with the block that began it, see `working`. One that `identify` made in the middle of nowhere
            has no end of its own: in another trace it counts as over, so that the next job on the same thread is not
            counted for the person of the one before.
        inner: It may be a part of another one: a scope in the middle of a request, see `apart`.
        left: It goes on in the context of a request that is over, and is about somebody else: that request's trace (0
            for none), see `set_apart`.

    Attributes:
        person: Whom its request turned out to be for, where only the request's span said so; "" for nobody.
        ended_ns: Nanoseconds since the Unix epoch; 0 while it goes on.
        own: It is one thread's or task's part of a request that is over, see `current_work`.
        loose: Its context is also that of others, so a request that begins in it is not part of it.
    """

    __slots__ = (
        "_ended",
        "_lock",
        "_served",
        "ambient",
        "ended_ns",
        "inner",
        "left",
        "loose",
        "managed",
        "own",
        "person",
        "trace_id",
    )

    def __init__(
        self,
        ambient: Ambient = NOTHING,
        *,
        trace_id: int = 0,
        managed: bool = False,
        inner: bool = False,
        left: int | None = None,
    ) -> None:
        self.ambient = ambient
        self.inner = inner
        self.trace_id = trace_id
        self.managed = managed
        self.left = left
        self.person = ""
        self.ended_ns = 0
        self.own = False
        self.loose = False
        self._served = False
        self._ended = 0.0
        # Re-entrant: a signal handler or a `__del__` may call while a call of its own thread is in here.
        self._lock = threading.RLock()

    def finish(self) -> None:
        """The request is over; what it has started may go on for a while."""
        self._ended = time.monotonic()
        self.ended_ns = time.time_ns()

    @property
    def has_ended(self) -> bool:
        """Whether its request has been answered; what that has started may still go on for it."""
        return self._ended > 0.0

    @property
    def is_over(self) -> bool:
        """Whether it ended so long ago that what still has its context is something else.

        OpenTelemetry's instrumentation gives a thread the context that started it, for the thread's whole life: a
        worker that was started by the first request would count all its jobs for the first request's person.
        """
        return self._ended > 0.0 and time.monotonic() - self._ended > OUTLIVES

    def part(self) -> Work:
        """What goes on of it after its end in one thread or task."""
        part = Work(self.ambient, trace_id=self.trace_id, managed=self.managed, inner=self.inner, left=self.left)
        part.person, part._ended, part.ended_ns, part.own = self.person, self._ended, self.ended_ns, True
        return part

    def knows(self, person: str) -> bool:
        """Whether its request is known to have been this person's, or visitor's."""
        ambient = self.ambient
        return person in (ambient.distinct_id, self.person, ambient.anonymous_id)

    def serve(self) -> None:
        """A request or message began in its context: it holds in none that it has not been told of."""
        self._served = True

    def holds_in(self, trace_id: int) -> bool:
        """Whether it is about what goes on in a trace.

        Args:
            trace_id: Of the span at hand; 0 for none.
        """
        if not trace_id or trace_id in (self.trace_id, self.left):
            return True
        if self._served:
            return traces.of(trace_id) is self
        return self.managed or not self.trace_id

    def change(self, **values: Any) -> Ambient:
        """Replaces fields of the ambient.

        Args:
            **values: By field of `Ambient`; `groups`, `flags` and `properties` are merged into those that are there.

        Returns:
            What holds now.
        """
        with self._changing():
            for name in _MERGED:
                if name in values:
                    values[name] = {**getattr(self.ambient, name), **values[name]}
            self.ambient = replace(self.ambient, **values)
            return self.ambient

    def reset(self, ambient: Ambient = NOTHING) -> None:
        """Forgets everything, as at a logout: the rest of the request is an anonymous visitor's, one and the same.

        Args:
            ambient: What is known from now on; with an `anonymous_id` of its own where it has none.
        """
        anonymous_id = ambient.anonymous_id
        if not (ambient.distinct_id or anonymous_id):
            from uuid import uuid4  # a logout is rare, and this loads more than all the rest here

            anonymous_id = str(uuid4())
        with self._changing():
            self.ambient = replace(ambient, anonymous_id=anonymous_id, nobody=not ambient.distinct_id)

    @contextmanager
    def _changing(self) -> Generator[None]:
        # In the child of a fork a thread that is not there may hold it: so it is not waited for without an end.
        mine = self._lock.acquire(timeout=_PATIENCE)
        try:
            yield
        finally:
            if mine:
                self._lock.release()


def work_in(ctx: Any, trace_id: int) -> Work | None:
    """The unit of work that a call in `ctx` is part of.

    Args:
        ctx: An OpenTelemetry context.
        trace_id: Of the current span in it; 0 for none.

    Returns:
        `None` where there is none, or only one that is over.
    """
    found = ctx.get(KEY)
    if found is None or not found.holds_in(trace_id):
        found = traces.of(trace_id) if trace_id else None
    return None if found is None or found.is_over else found


def work_of(trace_id: int, ctx: Any) -> Work | None:
    """The unit of work of a span that ends.

    Args:
        trace_id: Its trace.
        ctx: The context that it ends in, which may be another request's.
    """
    found, near = traces.of(trace_id), ctx.get(KEY)
    if near is not None:
        # A scope in the middle of a request is nearer than the request; another request's context is not.
        is_its = near.trace_id == trace_id or (near.managed and not near.trace_id and near.holds_in(trace_id))
        if (near.inner and near.holds_in(trace_id)) or (near.own and is_its) or (found is None and is_its):
            found = near
    return None if found is None or found.is_over else found


def root_started(trace_id: int, ctx: Any, arriving: Ambient = NOTHING, *, entered_in: Any = None) -> bool:
    """A local root span started: whatever its trace was about before, in an earlier visit, is over.

    Args:
        trace_id: Its trace.
        ctx: The context that it started in.
        arriving: What another service sent along.
        entered_in: Where it is a request or a message, the context that it comes to. Whoever `identify` named there
            while the app booted, and whoever's request started that thread, has nothing to do with it.

    Returns:
        Whether somebody was identified in the context who does not count in the trace.
    """
    traces.forget(trace_id)
    work = ctx.get(KEY)
    left_out = False
    if entered_in is not None:
        for found in (work, entered_in.get(KEY)):
            if found is not None and (found.has_ended or found.loose or not found.managed):
                found.serve()
                nowhere = not found.managed and not found.trace_id and found.left is None
                left_out = nowhere and bool(found.ambient.distinct_id)
                work = None if found is work else work
    if work is not None and (work.managed or not work.trace_id):
        traces.began(trace_id, work)
    elif arriving is not NOTHING:
        traces.began(trace_id, Work(arriving, trace_id=trace_id))
    return left_out


def current_work() -> Work:
    """The unit of work at hand; where there is none, one begins here, and holds for what follows in this context.

    What is learnt in a thread or task that outlives its request holds in that one alone: another that the request has
    started may be at work for somebody else by now, or still for its person.
    """
    here = context.get_current()
    trace_id = trace.get_current_span(here).get_span_context().trace_id
    found = work_in(here, trace_id)
    if found is None:
        found = Work(trace_id=trace_id)
        context.attach(context.set_value(KEY, found, here))
        if local := local_trace(here):
            traces.began(local, found)
    elif found.has_ended and not found.own:
        found = found.part()
        context.attach(context.set_value(KEY, found, here))
    return found


def apart(work: Work, trace_id: int) -> bool:
    """Whether the work goes on inside of a trace that is about something else: neither says who the other is for.

    Args:
        work: The one at hand.
        trace_id: Of the current span; 0 for none.
    """
    return work.inner and bool(trace_id) and traces.of(trace_id) is not work


def set_apart(ambient: Ambient) -> Work:
    """Begins a unit of work in the context of a request that is over, and that was somebody else's.

    In this thread or task only: what else the request has started may still be at work for its person. The span stays
    where it is, and so do the app's traces.

    Args:
        ambient: What is known of it.
    """
    here = context.get_current()
    work = Work(ambient, inner=True, left=trace.get_current_span(here).get_span_context().trace_id)
    context.attach(context.set_value(KEY, work, since_the_end(here)))
    return work


def new_work(ambient: Ambient, ctx: Any, *, apart: bool = False) -> Any:
    """A context in which a unit of work of its own begins.

    Args:
        ambient: What is known at its start.
        ctx: The context to build on.
        apart: That context is of a request which is over, see `set_apart`.
    """
    left = trace.get_current_span(ctx).get_span_context().trace_id if apart else None
    work = Work(ambient, managed=True, inner=True, left=left)
    return context.set_value(KEY, work, since_the_end(ctx) if apart else ctx)


@contextmanager
def working(ambient: Ambient = NOTHING) -> Generator[Work]:
    """A unit of work that ends with the block: what is learnt inside holds inside.

    What is known of its trace already holds inside, too: another service may have sent groups along.

    Args:
        ambient: What is known at its start.
    """
    trace_id = local_trace(context.get_current())
    before = traces.of(trace_id) if trace_id else None
    if before is not None and not before.managed:
        work = Work(above(ambient, before.ambient), trace_id=trace_id, managed=True)
        traces.replaced(trace_id, before, work)
    else:
        work = Work(ambient, trace_id=trace_id, managed=True)
        if trace_id:
            traces.began(trace_id, work)
    token = context.attach(context.set_value(KEY, work))
    try:
        yield work
    finally:
        work.finish()
        context.detach(token)


def local_trace(ctx: Any) -> int:
    """Trace id of the span at work in `ctx`; 0 where there is none, or only one of another service.

    Nobody tells when a trace whose spans are not recorded visits again, so such a trace remembers nothing.
    """
    found = trace.get_current_span(ctx)
    return found.get_span_context().trace_id if found.is_recording() else 0


def above(ambient: Ambient, below: Ambient) -> Ambient:
    """What `ambient` says, and `below` where it says nothing."""
    if ambient.nobody or below == NOTHING:
        return ambient
    values = {one.name: getattr(ambient, one.name) or getattr(below, one.name) for one in fields(Ambient)}
    for name in _MERGED:
        values[name] = {**getattr(below, name), **getattr(ambient, name)}
    return Ambient(**values)
