"""Whose data is whose, and what converts and delivers it: the projects of the settings, alive.

Routing is by the caller's credential and by resource attributes, both against the configuration: nothing that comes
with telemetry names a host, a key or a project. A credential that projects name belongs to them: what its callers send
goes to one of these or nowhere, whatever they write into their resource.

A reload changes a project in place: its bridge, its books and what waits for delivery stay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from otel_posthog.bridge import Bridge
from otel_posthog.convert import Converter
from otel_posthog.delivery.build import build_senders
from otel_posthog.gateway.configuration.bridge_compounds import as_text
from otel_posthog.gateway.configuration.settings import GatewaySettings, MatchSettings, ProjectSettings
from otel_posthog.gateway.prepare.wanted import WantedItems, wanted_of
from otel_posthog.gateway.projects.pinned_rules import PinnedRules
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.guard import Guard
from otel_posthog.policy import Policy

if TYPE_CHECKING:
    from otel_posthog.bridge import Tap
    from otel_posthog.delivery.protocols import Clock, Delivery, Transport

_HAND_OVER: Final = 2.0
"""Seconds that a delivery which is replaced may take for what it has begun."""

_MAX_PINNED: Final = 16
"""Rule sets of the past kept compiled, for each project: there is one for each reload with a backlog."""


class LiveProject:
    """One project as it runs (`parts.Project`). Safe in any thread.

    Args:
        settings: What it is built from.
        delivery: Where its events go.
        guard: Counts what is swallowed.
        tap: Sees every outcome.
    """

    def __init__(self, settings: ProjectSettings, delivery: Delivery, *, guard: Guard, tap: Tap | None) -> None:
        self._settings = settings
        converter = Converter(settings.convert, settings.rules)
        self._policy = Policy()
        self._bridge = Bridge(converter, self._policy, delivery, guard=guard, tap=tap)
        self._digest = settings.rules.digest
        self._pinned: dict[str, Bridge] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """See `Project`."""
        return self._settings.name

    @property
    def bridge(self) -> Bridge:
        """See `Project`."""
        return self._bridge

    @property
    def digest(self) -> str:
        """See `Project`."""
        return self._digest

    @property
    def settings(self) -> ProjectSettings:
        """What it is built from now."""
        return self._settings

    def pinned(self, digest: str, pins: PinnedRules) -> Bridge:
        """The bridge that converts by the rules of `digest`; see `Projects.pinned`."""
        if digest == self._digest:
            return self._bridge
        with self._lock:
            found = self._pinned.get(digest)
            if found is None:
                rules = pins.rules(self.name, digest)
                if rules is None:
                    return self._bridge
                found = self._bridge.beside(Converter(self._settings.convert, rules))
                while len(self._pinned) >= _MAX_PINNED:
                    del self._pinned[next(iter(self._pinned))]
                self._pinned[digest] = found
            return found

    def change(self, settings: ProjectSettings, delivery: Delivery | None) -> Delivery | None:
        """Goes on with other settings.

        Args:
            settings: The new ones, of the same name.
            delivery: A new delivery; `None` to keep the one that is there.

        Returns:
            The delivery that was replaced, for `retire`.
        """
        with self._lock:
            replaced = self._bridge.replace(Converter(settings.convert, settings.rules), delivery)
            self._settings = settings
            self._digest = settings.rules.digest
            # They share what was replaced, or use switches of the past: made anew where they are needed.
            self._pinned = {}
        return replaced

    def retire(self, delivery: Delivery | None, timeout: float) -> None:
        """Ends a delivery that was replaced, or with `None` the project itself.

        Args:
            delivery: From `change`.
            timeout: Seconds that it may take.
        """
        if delivery is None:
            self._bridge.shutdown(timeout)
        else:
            delivery.shutdown(timeout)
            self._bridge.ended(delivery)
        # What policy takes for known may not have arrived.
        self._policy.doubt()


@frozen
class _Route:
    """Where the data of one caller may go.

    Args:
        matching: Projects whose `match` has to hold, in order, each with that: a reload changes it in the project.
        rest: Gets what none of them takes; `None` for nobody.
        wanted: What is worth reading; `None` where nobody takes anything.
        one: The one project of everything, where nothing depends on the resource.
    """

    matching: tuple[tuple[LiveProject, MatchSettings], ...]
    rest: LiveProject | None
    wanted: WantedItems | None
    one: LiveProject | None

    def route(self, resource: Mapping[str, Any]) -> LiveProject | None:
        """See `parts.Routing`."""
        for project, match in self.matching:
            if _holds(match, resource):
                return project
        return self.rest


class _Routes:
    """How requests are assigned; replaced as a whole by a reload.

    Args:
        projects: In order of precedence.
        default: Name of the project of what none of them matches.
    """

    def __init__(self, projects: tuple[LiveProject, ...], default: str) -> None:
        self.projects = projects
        self._default = next((project for project in projects if project.name == default), None)
        self._bound = frozenset(token for project in projects for token in project.settings.match.tokens)
        self._by_caller: dict[str, _Route] = {}

    def of(self, caller: str) -> _Route:
        """Where the data of `caller` may go."""
        try:
            return self._by_caller[caller]
        except KeyError:
            # Callers are the configured ones: there are no more of them than names of tokens.
            found = self._by_caller[caller] = self._find(caller)
            return found

    def _find(self, caller: str) -> _Route:
        matching = [each for each in self.projects if each.settings.match and self._takes(each, caller)]
        default = self._default
        rest = default if default is not None and self._takes(default, caller) else None
        for index, project in enumerate(matching):
            if not project.settings.match.resource:  # It takes everything: nobody behind it is ever asked.
                matching, rest = matching[:index], project
                break
        users: list[LiveProject] = list(dict.fromkeys([*matching, *([rest] if rest is not None else [])]))
        wanted = wanted_of([each.settings.rules for each in users], [each.settings.convert for each in users])
        matches = tuple((each, each.settings.match) for each in matching)
        return _Route(matches, rest, wanted if users else None, rest if users == [rest] else None)

    def _takes(self, project: LiveProject, caller: str) -> bool:
        tokens = project.settings.match.tokens
        return caller in tokens if tokens or caller in self._bound else True


class ProjectsFromSettings:
    """`parts.Projects`. Safe in any thread.

    Args:
        settings: Checked settings.
        pins: The rules of the past.
        taps: The tap of a project's bridge, by its name.
        transport: Makes the HTTP client of a project, for tests.
        clock: Replaces the system clock, for tests.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        pins: PinnedRules,
        *,
        taps: Callable[[str], Tap | None] = lambda _: None,
        transport: Callable[[ProjectSettings], Transport | None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._pins = pins
        self._taps = taps
        self._transport = transport
        self._clock = clock
        self.guard = Guard()
        self._lock = threading.Lock()
        pins.keep(settings.projects)
        self._routes = self._arrange(settings, {each.name: self._new(each) for each in settings.projects})

    # --- parts.Projects --------------------------------------------------------------------------------------------

    def wanted(self, caller: str) -> WantedItems | None:
        """See `parts.Projects`."""
        return self._routes.of(caller).wanted

    def route(self, caller: str, resource: Mapping[str, Any]) -> LiveProject | None:
        """See `parts.Projects`."""
        return self._routes.of(caller).route(resource)

    def route_all(self, caller: str) -> LiveProject | None:
        """See `parts.Projects`."""
        return self._routes.of(caller).one

    def routing(self, caller: str) -> _Route:
        """See `parts.Projects`."""
        return self._routes.of(caller)

    def pinned(self, project: Any, digest: str) -> Bridge:
        """See `parts.Projects`."""
        return project.pinned(digest, self._pins)

    def all(self) -> tuple[LiveProject, ...]:
        """See `parts.Projects`."""
        return self._routes.projects

    # --- life ------------------------------------------------------------------------------------------------------

    def reload(self, settings: GatewaySettings, redeliver: Callable[[str], object]) -> None:
        """Goes on with other settings: rules, keys, hosts, projects.

        Args:
            settings: Checked settings.
            redeliver: Called with a project's name once its former delivery has ended: what had not ended in it is to
                be handed out again, to the new one.

        Raises:
            OSError: The rules cannot be kept beside the spool; everything stays as it was.
        """
        with self._lock:
            self._pins.keep(settings.projects)
            old = {project.name: project for project in self._routes.projects}
            live: dict[str, LiveProject] = {}
            retired: list[tuple[LiveProject, Delivery | None, float]] = []
            for each in settings.projects:
                project = old.pop(each.name, None)
                if project is None:
                    live[each.name] = self._new(each)
                    continue
                live[each.name] = project
                elsewhere = _delivers_elsewhere(project.settings, each)
                replaced = project.change(each, self._delivery(each) if elsewhere else None)
                if replaced is not None:
                    # Not long: a key that was revoked takes nothing, and the new delivery waits for what is left.
                    retired.append((project, replaced, min(settings.drain_timeout, _HAND_OVER)))
            self._routes = self._arrange(settings, live)
            gone = old.values()
            retired.extend((each, None, settings.drain_timeout) for each in gone)
        for project, delivery, timeout in retired:
            _retire(project, delivery, timeout, redeliver)

    def shutdown(self, timeout: float) -> None:
        """Ends every delivery within `timeout` seconds, all at the same time; what is left, its keeper still has."""
        threads = [
            threading.Thread(target=project.bridge.shutdown, args=(timeout,), name=f"otel-posthog-stop-{project.name}")
            for project in self.all()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _new(self, settings: ProjectSettings) -> LiveProject:
        return LiveProject(settings, self._delivery(settings), guard=self.guard, tap=self._taps(settings.name))

    def _delivery(self, settings: ProjectSettings) -> Delivery:
        return build_senders(
            settings.lane,
            settings.delivery,
            settings.senders,
            transport=self._transport(settings),
            clock=self._clock,
            guard=self.guard.failed,
            name=settings.name,
        )

    def _arrange(self, settings: GatewaySettings, live: Mapping[str, LiveProject]) -> _Routes:
        return _Routes(tuple(live[each.name] for each in settings.projects), settings.default_project)


def _holds(match: MatchSettings, resource: Mapping[str, Any]) -> bool:
    return all(key in resource and as_text(resource[key]) in values for key, values in match.resource)


def _delivers_elsewhere(old: ProjectSettings, new: ProjectSettings) -> bool:
    return (old.lane, old.delivery, old.senders) != (new.lane, new.delivery, new.senders)


def _retire(
    project: LiveProject, delivery: Delivery | None, timeout: float, redeliver: Callable[[str], object]
) -> None:
    """Ends a former delivery beside the running ones."""

    def retire() -> None:
        project.retire(delivery, timeout)
        redeliver(project.name)

    threading.Thread(target=retire, name=f"otel-posthog-retire-{project.name}", daemon=True).start()


__all__ = ["LiveProject", "ProjectsFromSettings"]
