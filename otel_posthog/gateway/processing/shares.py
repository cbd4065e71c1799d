"""What of a record belongs to a project, and how it gets it: signals by its bridge, events of a replay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from otel_posthog.delivery.json_event import event_of
from otel_posthog.delivery.protocols import Delivery
from otel_posthog.gateway.parts import Project, Projects, Routing
from otel_posthog.gateway.processing.reading import Reader
from otel_posthog.gateway.processing.work import EventsReceipt, Portion, Work
from otel_posthog.model import Signal

CHUNK: Final = 128
"""Signals handed to a bridge at once."""


class Shares:
    """For one thread.

    Args:
        projects: Whose data is whose.
        reader: Reads records.
        moved: Told the name of a project that got rid of an event, in any thread.
    """

    def __init__(self, projects: Projects, reader: Reader, moved: Callable[[str], None]) -> None:
        self._projects = projects
        self._reader = reader
        self._moved = moved

    def submit(self, work: Work, project: Project) -> bool:
        """An event of a replay goes out as it is: nothing is converted."""
        event = event_of(self._reader.record(work).body)
        delivery = project.bridge.load().delivery
        return delivery.submit([event], self._receipt(work, project, delivery))

    def accept(self, work: Work, project: Project, signals: Sequence[Signal]) -> list[Signal]:
        """Hands signals to their project; returns those that it has no room for."""
        digest = work.record.digests.get(project.name)  # "" is that of no rules at all
        bridge = project.bridge if digest is None else self._projects.pinned(project, digest)
        left: list[Signal] = []
        # Asked for before: what is replaced meanwhile is handed out twice rather than never.
        bridge.accept(signals, left, self._receipt(work, project, bridge.load().delivery))
        return left

    def _receipt(self, work: Work, project: Project, delivery: Delivery) -> EventsReceipt:
        receipts = work.receipts.setdefault(project.name, [])
        if not receipts or receipts[-1].delivery is not delivery:
            receipts.append(EventsReceipt(work.tracker, project.name, delivery, self._moved))
        return receipts[-1]

    def route(self, work: Work, signal: Signal, routes: dict[int, Project | None]) -> Project | None:
        """The project of a resource; `routes` remembers it for the other items of the resource."""
        key = id(signal.resource)  # one object for all items of a resource, alive as long as its request
        if key not in routes:
            routes[key] = self.routing(work).route(signal.resource.attributes)
        return routes[key]

    def routing(self, work: Work) -> Routing:
        """Whose data of this caller is whose."""
        if work.routing is None:
            work.routing = self._projects.routing(work.record.caller)
        return work.routing

    def project(self, name: str) -> Project | None:
        """The project of that name, where it is still configured."""
        return next((project for project in self._projects.all() if project.name == name), None)

    def carry_on(self, portion: Portion, project: Project) -> bool:
        """Hands out what there is room for; whether that was all."""
        if portion.left:
            while portion.left:
                share = portion.left[: portion.chunk]
                refused = self.accept(portion.work, project, share)
                portion.left = [*refused, *portion.left[len(share) :]]
                if refused:
                    portion.chunk = 1
                    return False
                portion.chunk = min(2 * portion.chunk, CHUNK)
        stream = portion.stream
        if stream is None:
            stream = portion.stream = self._share(portion)
        while chunk := list(islice(stream, portion.chunk)):
            portion.skip += len(chunk)
            portion.left = chunk  # until it is known otherwise: what fails is tried again
            portion.left = self.accept(portion.work, project, chunk)
            if portion.left:
                portion.chunk = 1
                return False
            portion.chunk = min(2 * portion.chunk, CHUNK)
        return True

    def _share(self, portion: Portion) -> Iterator[Signal]:
        """What its project is still to get, read once more."""
        work = portion.work
        stream = iter(self._reader.signals(work))
        if self.routing(work).one is None:
            routes: dict[int, Project | None] = {}

            def mine(signal: Signal) -> bool:
                project = self.route(work, signal, routes)
                return project is not None and project.name == portion.project

            stream = filter(mine, stream)
        return islice(stream, portion.skip, None)
