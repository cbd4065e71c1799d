"""What the rooms of the gateway promise each other behind the intake.

    Intake ─► prepare ─► journal (durable) ─► processing ─► Project.bridge ─► PostHog
                 │            ▲                    │
             Prepared         └──── receipts ──────┘        a record is done when each of its events has its end

Rooms: `prepare` reads bytes, `journal/` is the disk, `processing` the threads between, `projects` says whose data is
whose, `books` counts. `service` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from otel_posthog.gateway.inbound import Kind
from otel_posthog.model.frozen import frozen

if TYPE_CHECKING:
    from otel_posthog.bridge import Bridge
    from otel_posthog.model import Signal


class Wanted(Protocol):
    """What makes an item worth reading: made from the rules of all projects that the caller's data may go to."""

    @property
    def everything(self) -> bool:
        """Whether nothing can be told from the bytes, so that every item has to be read."""
        ...


@frozen
class Prepared:
    """One request that has been looked into; what cannot become an event was not even decoded.

    Args:
        received: Spans or log records in it; span events are not counted.
        skipped: Of these, those that no tag and no rule can want: told from their bytes.
        rejected: Of these, those that can never be read; exact, for `partial_success`.
        messages: What was wrong, at most `decoded.MAX_MESSAGES`.
        candidates: Of these, those that `signals` gives (their span events come on top).
        size: About how many bytes of memory it holds.
        signals: Decodes the candidates: each span followed by its span events, each log record, in order. May be
            called more than once.
    """

    received: int
    skipped: int
    rejected: int
    messages: tuple[str, ...]
    candidates: int
    size: int
    signals: Callable[[], Iterable[Signal]]


class Prepare(Protocol):
    """Looks into a request."""

    def __call__(self, kind: Kind, media_type: str, body: bytes, wanted: Wanted) -> Prepared:
        """Reads as little of `body` (inflated) as can be.

        Raises:
            SignalError: The body is no OTLP request, and nothing of it could be saved.
        """
        ...


class Project(Protocol):
    """One PostHog project: its rules, its key, its region."""

    @property
    def name(self) -> str:
        """As in the configuration; safe to show."""
        ...

    @property
    def bridge(self) -> Bridge:
        """Where its signals go."""
        ...

    @property
    def digest(self) -> str:
        """Digest of the rules it uses now; a spooled record names it (DESIGN §4: an item pins its rules)."""
        ...


class Routing(Protocol):
    """Where the data of one caller goes by the configuration of one moment; a reload does not change it."""

    @property
    def one(self) -> Project | None:
        """The one project of everything; `None` where the resource decides."""
        ...

    @property
    def route(self) -> Callable[[Mapping[str, Any]], Project | None]:
        """Resource attributes -> their project; `None` for none."""
        ...


class Projects(Protocol):
    """Whose data is whose: from the configuration only. Safe in any thread; may change with a reload."""

    def wanted(self, caller: str) -> Wanted | None:
        """What is worth reading for `caller`; `None` where no project takes anything from it (403)."""
        ...

    def route(self, caller: str, resource: Mapping[str, Any]) -> Project | None:
        """The project of telemetry with these resource attributes from this caller; `None` for none."""
        ...

    def route_all(self, caller: str) -> Project | None:
        """The one project of everything from `caller`; `None` where the resource decides."""
        ...

    def routing(self, caller: str) -> Routing:
        """`route_all` and `route` as they are now, for good: what has been begun by them is ended by them."""
        ...

    def pinned(self, project: Project, digest: str) -> Bridge:
        """The bridge of `project` that converts by the rules of `digest`, for what was spooled before a reload.

        Where these rules are no longer known, that of today, and a warning says so.
        """
        ...

    def all(self) -> Iterable[Project]:
        """Every project."""
        ...
