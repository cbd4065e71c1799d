"""`CapturedEvents`: the list that grows while the code under test runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, overload

from otel_posthog.model import CaptureEvent, DropReason
from otel_posthog.testing.events import Event, Events, listing, only

if TYPE_CHECKING:
    from otel_posthog.testing.clock import Clock
    from otel_posthog.testing.folding import Folded

_UNREMARKABLE: Final = DropReason.NOT_TAGGED.value


class CapturedEvents(Sequence[Event]):
    """What has been captured so far, in the order in which it would leave; a list that only reads.

    A look at it settles everything: what happened before is in it, whatever thread it happened in. That ends the wait
    for the person of a request that still goes on (docs/identify.md), as the request's end would.

    Args:
        read: Settles, and gives all events.
        forget: Drops them.
        dropped: What was looked at and became no event, by reason.
        misused: Calls with mistakes, by kind.
        attach: See `attach`.
        clock: Of the test.
    """

    def __init__(
        self,
        *,
        read: Callable[[], list[CaptureEvent]],
        forget: Callable[[], None],
        dropped: Callable[[], Mapping[str, int]],
        misused: Callable[[], Mapping[str, int]],
        attach: Callable[[Any], None],
        clock: Clock,
    ) -> None:
        self._read = read
        self._forget = forget
        self._dropped = dropped
        self._misused = misused
        self._attach = attach
        self.clock = clock
        """When things happen; stands still until it is moved."""

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def events(self) -> Events:
        """All of them at this moment, in a list that does not grow."""
        return Events(Event(captured) for captured in self._read())

    def named(self, name: str) -> Events:
        """Those of this name."""
        return self.events.named(name)

    def of(self, distinct_id: str) -> Events:
        """Those of this person."""
        return self.events.of(distinct_id)

    def one(self, name: str | None = None) -> Event:
        """The only one, or the only one of this name.

        Args:
            name: Of any name where `None`.

        Raises:
            AssertionError: There is none, or there are several; it says what was captured, what was dropped and why,
                and which calls were wrong.
        """
        __tracebackhide__ = True
        return only(self.events, name, self._remarks())

    def as_dicts(self, *, whole: bool = False) -> list[dict[str, Any]]:
        """Plain dicts, for snapshots.

        Args:
            whole: With everything, see `Event.whole`.
        """
        return self.events.as_dicts(whole=whole)

    def fold(self) -> Folded:
        """The people and groups that PostHog would make of them, see `otel_posthog.testing.fold`."""
        return self.events.fold()

    @property
    def dropped(self) -> dict[str, int]:
        """What became no event, by reason (docs/events.md); spans that say nothing to us aside."""
        self._read()
        return {reason: count for reason, count in self._dropped().items() if reason != _UNREMARKABLE}

    @property
    def misused(self) -> dict[str, int]:
        """Calls with mistakes in them, by kind: what production would warn about, once."""
        self._read()
        return dict(self._misused())

    # --- doing -------------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forgets what has been captured so far."""
        self._read()
        self._forget()

    def attach(self, provider: Any) -> None:
        """Listens to a tracer or logger provider that is not the global one, until the test is over.

        Args:
            provider: One of OpenTelemetry's SDK.

        Raises:
            TypeError: It takes no processors.
        """
        self._attach(provider)

    # --- a list ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> Events: ...

    def __getitem__(self, index: int | slice) -> Event | Events:
        if isinstance(index, slice):
            return Events(self.events[index])
        events = self.events
        try:
            return events[index]
        except IndexError:
            raise IndexError("\n".join([f"there is no event {index}", *listing(events), *self._remarks()])) from None

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CapturedEvents):
            other = other.events
        return list(self.events) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self.events))

    def _remarks(self) -> list[str]:
        lines: list[str] = []
        for title, counts in (("Dropped", self.dropped), ("Wrong calls", self.misused)):
            if counts:
                lines.append(f"{title}: " + ", ".join(f"{count} x {what}" for what, count in sorted(counts.items())))
        return lines


__all__ = ["CapturedEvents"]
