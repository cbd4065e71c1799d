"""Late identity: items wait for the rest of their local trace, and are settled once.

A tagged child span often ends before the span that learns who the user is. So items wait by trace id until the local
root ends, `late_wait` seconds pass, or more than `late_cap` items wait; then those that do not state a person get the
one person that the others of their trace state, now or earlier in it. Several different persons: nobody is guessed.

The same wait completes exceptions: carriers of one object are seen together, so that the richest one speaks for it and
its `handled` is known. No thread, no clock: time is handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from otel_posthog.lane.exceptions import LiveException, read_chain
from otel_posthog.lane.identity import WIRE
from otel_posthog.model import LocalContext, Signal, SignalKind
from otel_posthog.semconv import posthog

_REMEMBERED: int = 1_000
"""Traces whose person is remembered: after their local root ended, for work that outlives the request; and while it
goes on, for what follows after the wait."""

Identify = Callable[[Signal], str]

_UPDATES: Final = (posthog.SET, posthog.SET_ONCE, posthog.UNSET, posthog.GROUP_SET)


@dataclass(slots=True, eq=False, repr=False)
class Item:
    """One signal on its way to the bridge.

    Args:
        signal: In normal form; its `local` is settled here.
        inherited: Its `posthogDistinctId` is a stamp of ours, see `identity.py`.
        convert: Whether it goes to the bridge; a mere witness of the trace's person does not.
        sampled: Whether its trace was sampled; `None` without a trace.
        live: The live exception behind it.
        unhandled: Nobody in the app handled the exception: it left the local root span, or a framework says so.
        mechanism: PostHog mechanism of the exception.
        ends: It is a local root itself, without an exception, and with its end the trace has nothing to wait for:
            whether the trace began in this process. `None` for all others.
        asked: The app itself asked for it by a call: it speaks for its exception, whoever saw that first.
        at_once: It waits for nobody; whom it states counts for the others of its trace all the same.
        person: Who was identified in its unit of work before it ended; what it states itself wins.
        apart: It came after a logout: it says nothing about the rest of its trace, nor they about it.
    """

    signal: Signal
    inherited: bool = False
    convert: bool = True
    sampled: bool | None = None
    live: LiveException | None = None
    unhandled: bool | None = None
    mechanism: str = ""
    ends: bool | None = None
    asked: bool = False
    at_once: bool = False
    person: str = ""
    apart: bool = False
    # Found out once: who waits is asked for when the trace is settled, and again for each item of it.
    own: Signal | None = None
    states: str | None = None


class _Trace:
    __slots__ = ("deadline", "items", "updates")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.items: list[Item] = []
        self.updates = False


class Waiting:
    """Items by trace id until they are settled.

    Args:
        wait: Seconds that an item waits at the most; 0 settles everything at once.
        cap: Items waiting at the most, over all traces; beyond it the oldest trace is settled as it is.
        identify: Who a signal itself says it belongs to.
        shared: Whether several local roots of one trace were at work at once (a consumer that takes many messages of
            one trace, each for another person): then nothing is concluded from one item about another.
    """

    def __init__(
        self, *, wait: float, cap: int, identify: Identify, shared: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._shared = shared
        self._wait = wait
        self._cap = max(cap, 1)
        self._identify = identify
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        self._count = 0
        self._known: OrderedDict[str, str] = OrderedDict()
        # Who was stated by items that are settled, in traces that go on.
        self._said: OrderedDict[str, frozenset[str]] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def add(self, item: Item, now: float) -> Sequence[Signal]:
        """Takes `item`; gives what is settled by that."""
        trace_id = item.signal.trace_id
        if item.ends is not None:
            return self._add_root(item, trace_id, now, only_root=item.ends)
        if item.at_once and not self._is_behind(item, trace_id):
            if trace_id and self._wait > 0 and trace_id not in self._known:
                self._remember(trace_id, [item])
            return self._settle([item])
        if not trace_id or self._wait <= 0:
            return self._settle([item])
        trace = self._traces.get(trace_id)
        if trace is None:
            if trace_id in self._known:
                # Its root has ended: there is nothing left to wait for.
                return self._settle([item], self._known[trace_id])
            trace = self._traces[trace_id] = _Trace(now + self._wait)
        trace.items.append(item)
        trace.updates = trace.updates or _updates(item.signal)
        self._count += 1
        settled: list[Signal] = []
        while self._count > self._cap and self._traces:
            settled += self._release(next(iter(self._traces)))
        return settled

    def _is_behind(self, item: Item, trace_id: str) -> bool:
        """Whether an earlier update of its trace still waits, and `item` is another one.

        PostHog keeps what arrives last: a plan that was `free` before the login and `pro` with it must not end `free`.
        """
        trace = self._traces.get(trace_id)
        if trace is None or not trace.updates or not _updates(item.signal):
            return False
        # Whose it is was clear before, and stays so; what says nothing about its trace goes on saying nothing.
        item.apart = item.apart or not item.states
        return True

    def _add_root(self, item: Item, trace_id: str, now: float, *, only_root: bool) -> Sequence[Signal]:
        """As `add` and `root_ended` in one.

        Most tagged items are the root of their trace and the only one of it: nobody waits for them, and they for
        nobody.
        """
        signal = item.signal
        if (
            not trace_id
            or self._wait <= 0
            or trace_id in self._traces
            or trace_id in self._known
            or trace_id in self._said
            or not WIRE.isdisjoint(signal.attributes)
        ):
            item.ends = None
            return [*self.add(item, now), *self.root_ended(trace_id, only_root=only_root)]
        shared = self._shared(trace_id)
        if item.apart:
            return (signal,)
        if item.inherited or item.person:
            # A stamp gives way to what the item states; where it states nothing, the stamp is who it says it is.
            person = self._stated(item)
            if person:
                signal = _own(item)
            elif person := item.person or ("" if shared else self._identify(signal)):
                signal = _own(item).with_local(plain_local(item.sampled).with_distinct_id(person))
            if only_root:
                self._keep(trace_id, "" if shared else person)
        elif only_root:
            self._keep(trace_id, "" if shared else self._identify(signal))
        return (signal,)

    def root_ended(self, trace_id: str, *, only_root: bool) -> list[Signal]:
        """The local root of `trace_id` ended: settles its items.

        Args:
            trace_id: 32 hex digits.
            only_root: The trace began here, so that no other root of it can follow: its person is remembered for a
                while. A trace that came from outside may visit again, for somebody else.
        """
        trace = self._traces.get(trace_id)
        if trace is None and trace_id not in self._said:
            return []
        person = self._person(trace_id, trace.items if trace is not None else [])
        if only_root:
            self._keep(trace_id, person)
        self._said.pop(trace_id, None)
        return self._release(trace_id, person, root_ended=True) if trace is not None else []

    def _keep(self, trace_id: str, person: str) -> None:
        known = self._known
        known[trace_id] = person
        if len(known) > _REMEMBERED:
            known.popitem(last=False)

    def due(self, now: float) -> list[Signal]:
        """What has waited long enough; traces are in the order of their deadlines."""
        settled: list[Signal] = []
        while self._traces:
            trace_id, trace = next(iter(self._traces.items()))
            if trace.deadline > now:
                break
            settled += self._release(trace_id)
            self._remember(trace_id, trace.items)
        return settled

    def next_deadline(self) -> float | None:
        """When `due` has something to give; `None` where nothing waits."""
        for trace in self._traces.values():
            return trace.deadline
        return None

    def release_all(self) -> list[Signal]:
        """Everything, as far as it is known now: at a flush and at the end."""
        settled: list[Signal] = []
        while self._traces:
            settled += self._release(next(iter(self._traces)))
        # Nobody tells when the roots of these end: a later message of the same trace may be somebody else's.
        self._said.clear()
        return settled

    def traces(self) -> Iterable[str]:
        """Trace ids for which the end of the local root is wanted."""
        return (*self._traces, *self._said)

    # --- settling ----------------------------------------------------------------------------------------------------

    def _release(self, trace_id: str, person: str | None = None, *, root_ended: bool = False) -> list[Signal]:
        trace = self._traces.pop(trace_id)
        self._count -= len(trace.items)
        if person is None:
            person = self._person(trace_id, trace.items)
        return self._settle(trace.items, person, root_ended=root_ended)

    def _remember(self, trace_id: str, items: list[Item]) -> None:
        strong = self._strong(trace_id, items)
        if strong:
            self._said[trace_id] = strong
            self._said.move_to_end(trace_id)
            if len(self._said) > _REMEMBERED:
                self._said.popitem(last=False)

    def _strong(self, trace_id: str, items: list[Item]) -> frozenset[str]:
        """The persons that the trace's items state; at most two, since two are too many."""
        found = {person for item in items if (person := self._stated(item) or item.person) and not item.apart}
        if self._said:
            found.update(self._said.get(trace_id, ()))
        return frozenset(found if len(found) < 2 else sorted(found)[:2])

    def _person(self, trace_id: str, items: list[Item]) -> str:
        """The one person that `items` state; else the one that clients claim in headers and baggage; else ""."""
        if self._shared(trace_id):
            return ""
        strong = self._strong(trace_id, items)
        if strong:
            return next(iter(strong)) if len(strong) == 1 else ""
        claimed = {person for item in items if not item.apart and (person := self._identify(item.signal))}
        return claimed.pop() if len(claimed) == 1 else ""

    def _settle(self, items: list[Item], person: str = "", *, root_ended: bool = False) -> list[Signal]:
        exceptions = _settle_exceptions(items, root_ended=root_ended)
        settled: list[Signal] = []
        for item, local in zip(items, exceptions, strict=True):
            if item.convert:
                signal, late = self._attribute(item, person)
                if late:
                    local = local.with_distinct_id(late)  # noqa: PLW2901 - the same thing, completed
                # Most spans were read with what turns out to hold for them.
                settled.append(signal if signal.local is local else signal.with_local(local))
        return settled

    def _stated(self, item: Item) -> str:
        """Who `item` itself says it belongs to."""
        if item.states is None:
            item.states = self._identify(_own(item))
        return item.states

    def _attribute(self, item: Item, person: str) -> tuple[Signal, str]:
        """The signal with the identity that holds for it, and the late identity where that is the one."""
        person = item.person or person
        if item.apart or not (item.inherited or person):
            return item.signal, ""
        own = _own(item)
        if self._stated(item):
            return own, ""  # what the item states wins over what it inherited
        return (own, person) if person else (item.signal, "")


def _updates(signal: Signal) -> bool:
    """Whether it changes a person or a group."""
    return any(key.startswith(_UPDATES) for key in signal.attributes)


def _own(item: Item) -> Signal:
    """The signal without what it inherited and without what a client claims in headers."""
    if item.own is None:
        item.own = _without_claims(item.signal, inherited=item.inherited)
    return item.own


def _without_claims(signal: Signal, *, inherited: bool) -> Signal:
    attributes, owner = signal.attributes, signal.span
    if owner is not None:
        # A span event speaks for its span too; the owner's Item says whether its stamp is ours.
        owner = _without_claims(owner, inherited=inherited)
    if not inherited and owner is signal.span and WIRE.isdisjoint(attributes):
        return signal
    kept = dict(attributes)
    for key in WIRE:
        kept.pop(key, None)
    if inherited:
        kept.pop(posthog.POSTHOG_DISTINCT_ID, None)
    return signal.with_attributes(kept, owner)


def plain_local(sampled: bool | None) -> LocalContext:
    """What the process knows about a signal without an exception behind it; always the same three objects.

    Args:
        sampled: Whether its trace was sampled; `None` without a trace.
    """
    return _SAMPLED if sampled else _UNTRACED if sampled is None else _UNSAMPLED


_SAMPLED: Final = LocalContext(sampled=True)
_UNSAMPLED: Final = LocalContext(sampled=False)
_UNTRACED: Final = LocalContext()


def _settle_exceptions(items: list[Item], *, root_ended: bool) -> list[LocalContext]:
    by_token: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.live is not None and not item.live.control_flow:
            by_token.setdefault(item.live.token, []).append(index)
    locals_ = [_plain_local(item) for item in items]
    for token, indexes in by_token.items():
        speaker = _speaker(items, indexes)
        lives = [live for index in indexes if (live := items[index].live) is not None]
        unhandled = any(items[index].unhandled for index in indexes)
        for index in indexes:
            if index != speaker:
                locals_[index] = replace(locals_[index], already_captured=True, exception_id=token)
        if speaker is None:
            continue
        # The outermost carrier has the longest way of the exception in its traceback.
        fullest = max(lives, key=lambda live: live.frames)
        item = items[speaker]
        locals_[speaker] = replace(
            locals_[speaker],
            exception=read_chain(fullest),
            exception_id=token,
            # It reached neither the root nor a framework's last resort, and the root has ended: the app took it.
            handled=False if unhandled else (True if root_ended or item.unhandled is False else None),
            # The last to see it unhandled is the outermost: the server span says more than the framework's log.
            mechanism=next(
                (items[index].mechanism for index in reversed(indexes) if items[index].unhandled), item.mechanism
            ),
        )
    return locals_


def _speaker(items: list[Item], indexes: list[int]) -> int | None:
    """Which carrier becomes the event: the one that the app asked for; else the first seen.

    Of one span the span event comes before the log record.

    `None` where the exception was captured before any of them.
    """
    first = next((i for i in indexes if (live := items[i].live) is not None and not live.captured_before), None)
    if first is None:
        return None
    for index in indexes:
        if items[index].asked:
            return index
    chosen = items[first].signal
    if chosen.kind is SignalKind.LOG and posthog.EVENT not in chosen.attributes:
        # The framework logs the error just before its server span ends with it: same span, but the span event also
        # has the request around it.
        for index in indexes:
            signal = items[index].signal
            if signal.kind is SignalKind.SPAN_EVENT and signal.span_id == chosen.span_id:
                return index
    return first


def _plain_local(item: Item) -> LocalContext:
    signal = item.signal
    token = ""
    if item.live is None and item.unhandled is None and not item.mechanism and signal.kind is not SignalKind.SPAN_EVENT:
        return plain_local(item.sampled)
    if signal.kind is SignalKind.SPAN_EVENT:
        # Recorded by hand and handled long ago: each record is an exception of its own, so three retries are three.
        token = f"{signal.trace_id}:{signal.span_id}:{signal.index}"
    return LocalContext(
        sampled=item.sampled,
        exception_id=token,
        handled=_handled(item.unhandled),
        mechanism=item.mechanism,
        control_flow=item.live is not None and item.live.control_flow,
    )


def _handled(unhandled: bool | None) -> bool | None:
    return None if unhandled is None else not unhandled
