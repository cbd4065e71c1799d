"""Whose data is whose, and what a reload changes."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.errors import RetryableError
from otel_posthog.gateway.configuration.settings import GatewaySettings
from otel_posthog.gateway.inbound import JSON
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.prepare.wanted import EVERYTHING
from otel_posthog.gateway.projects.pinned_rules import PinnedRules
from otel_posthog.gateway.projects.projects import LiveProject, ProjectsFromSettings
from otel_posthog.model import CaptureEvent, LossReason, Signal
from tests.unit.gateway.gateway_world import otlp, settings_of

EU, US = "https://eu.i.posthog.com", "https://us.i.posthog.com"
RULES = "rules:\n  - {name: paid, match: {name: Pay now}, capture: order paid}\n"


def project(host: str = EU, **more: Any) -> dict[str, Any]:
    """A project of the file."""
    return {"host": host, "key": {"env": "KEY"}, **more}


class Wire:
    """A transport that keeps what it is given; refuses all while `away`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.away = False
        self.tried = threading.Event()

    def post(self, request: Request, *, timeout: float) -> Response:
        """See `Transport`."""
        self.tried.set()
        if self.away:
            raise RetryableError("away")
        self.requests.append(request)
        return Response(200, {"content-type": "application/json"}, b'{"status": 1}')

    def close(self) -> None:
        """See `Transport`."""


class World:
    """Projects that are shut down at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wire = Wire()
        self.made: list[ProjectsFromSettings] = []

    def settings(self, projects: dict[str, Any], default: str = "", tokens: bool = True) -> GatewaySettings:
        """Settings with these projects."""
        document: dict[str, Any] = {"projects": projects}
        if tokens:
            document["tokens"] = {"one": {"env": "TOKEN"}, "two": {"env": "TOKEN_TWO"}}
        if default:
            document["default_project"] = default
        return settings_of(self.folder, document)

    def projects(self, projects: dict[str, Any], default: str = "", **more: Any) -> ProjectsFromSettings:
        """Projects, alive."""
        pins = PinnedRules(str(self.folder / "spool"))
        self.made.append(
            ProjectsFromSettings(self.settings(projects, default, **more), pins, transport=lambda _: self.wire)
        )
        return self.made[-1]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """See `World`."""
    made = World(tmp_path)
    yield made
    for each in made.made:
        each.shutdown(1.0)


def name(project: LiveProject | None) -> str | None:
    """Its name."""
    return project.name if project is not None else None


ROUTES: dict[str, Any] = {
    "eu": project(match={"tokens": ["one"], "resource": {"zone": "eu"}}),
    "us": project(US, match={"tokens": ["one"], "resource": {"zone": ["us", "ca"]}}),
    "numbers": project(match={"resource": {"tenant": [1, True]}}),
    "rest": project(),
}


@pytest.mark.parametrize(
    ("caller", "resource", "goes_to"),
    [
        ("one", {"zone": "eu"}, "eu"),
        ("one", {"zone": "ca"}, "us"),
        # A token that projects name goes to these or nowhere, not to the default, and not by another's resource.
        ("one", {"zone": "mars"}, None),
        ("one", {"tenant": 1}, None),
        ("two", {"zone": "eu"}, "rest"),
        ("two", {"tenant": 1}, "numbers"),
        ("two", {"tenant": "1"}, "numbers"),
        ("two", {"tenant": True}, "numbers"),
        ("two", {"tenant": 2}, "rest"),
        ("two", {}, "rest"),
        ("", {"tenant": 1}, "numbers"),
        ("nobody", {}, "rest"),
    ],
)
def test_routes(world: World, caller: str, resource: dict[str, Any], goes_to: str | None) -> None:
    """The first project whose match holds, else the default; a bound credential stays with its projects."""
    projects = world.projects(ROUTES, "rest")
    assert name(projects.route(caller, resource)) == goes_to
    assert projects.route_all(caller) is None


@pytest.mark.parametrize(
    ("listed", "default", "caller", "goes_to"),
    [
        ({"only": project()}, "", "one", "only"),
        ({"a": project(match={"tokens": ["one"]}), "b": project()}, "b", "one", "a"),
        ({"a": project(match={"tokens": ["one"]}), "b": project()}, "b", "two", "b"),
        # The default stands first, and still is asked last.
        ({"b": project(), "a": project(match={"tokens": ["one"]})}, "b", "one", "a"),
        # A default with a resource of its own takes the rest, too.
        ({"a": project(match={"resource": {"zone": "eu"}})}, "a", "one", "a"),
        # What takes everything hides what stands behind it.
        (
            {"a": project(match={"tokens": ["one"]}), "b": project(match={"tokens": ["one"], "resource": {"z": "y"}})},
            "",
            "one",
            "a",
        ),
    ],
)  # fmt: skip
def test_one_project_for_everything(
    world: World, listed: dict[str, Any], default: str, caller: str, goes_to: str
) -> None:
    """Where nothing depends on the resource nobody asks for it."""
    projects = world.projects(listed, default)
    assert name(projects.route_all(caller)) == goes_to
    assert name(projects.route(caller, {"zone": "mars"})) == goes_to


def test_nobody_takes_it(world: World) -> None:
    """A credential that no project names, without a default: nothing is wanted, which is a 403."""
    projects = world.projects({"a": project(match={"tokens": ["one"]})})
    assert projects.wanted("two") is None
    assert projects.route("two", {}) is None
    assert projects.route_all("two") is None
    assert projects.wanted("one") is not None


def test_what_is_wanted_is_of_the_callers_projects(world: World) -> None:
    """Rules of projects that a caller's data cannot reach make none of it worth reading."""
    (world.folder / "rules.yaml").write_text(RULES)
    projects = world.projects(
        {"a": project(match={"tokens": ["one"]}, rules="rules.yaml"), "b": project(match={"tokens": ["two"]})}
    )
    one, two = projects.wanted("one"), projects.wanted("two")
    assert one is not None
    assert two is not None
    assert ([need.text for need in one.traces.rules], two.traces.rules) == (["Pay now"], ())


@pytest.mark.row(40)
def test_telemetry_names_no_project_host_or_key(world: World) -> None:
    """Whatever an item says of hosts, keys, tenants and projects, it goes where the configuration says."""
    projects = world.projects({"a": project(match={"resource": {"zone": "eu"}}), "b": project(US)}, "b")
    hostile = {
        "posthog.host": "http://169.254.169.254", "posthog.api_key": "phc_mallory", "posthog.project": "a",
        "project": "a", "host.name": "evil.example", "tenant": "a", "posthog.token": "phc_mallory",
    }  # fmt: skip
    chosen = projects.route("two", hostile)
    assert name(chosen) == "b"
    assert chosen is not None
    chosen.bridge.accept([signal(event="seen", resource=hostile, **hostile)])
    assert chosen.bridge.flush(60)
    assert {(each.url, key_of(each)) for each in world.wire.requests} == {
        (f"{US}/i/v1/analytics/events", "phc_world_key_one"),
        (f"{US}/batch/", "phc_world_key_one"),
    }


def key_of(request: Request) -> str:
    """The key that a request carries: v1 in a header, v0 in its body."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    if "authorization" in headers:
        return headers["authorization"].removeprefix("Bearer ")
    return json.loads(gzip.decompress(request.body))["api_key"]


def signal(**more: Any) -> Signal:
    """One span."""
    return next(iter(prepare("traces", JSON, json.dumps(otlp(**more)).encode(), EVERYTHING).signals()))


class Ends:
    """A receipt that keeps what became of each event."""

    def __init__(self) -> None:
        self.open = 0
        self.ends: list[tuple[str, LossReason | None]] = []

    def taken(self, count: int) -> None:
        """See `Receipt`."""
        self.open += count

    def ended(self, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
        """See `Receipt`."""
        self.ends.append((event.event, lost))


def test_a_reload_changes_rules_in_place(world: World) -> None:
    """The bridge and its books stay; what was accepted under the old rules is still converted by them."""
    (world.folder / "rules.yaml").write_text(RULES)
    projects = world.projects({"a": project(rules="rules.yaml")})
    before = projects.route_all("one")
    assert before is not None
    bridge, old = before.bridge, before.digest
    assert [event.event for event in bridge.converter.convert(signal(name="Pay now")).events] == ["order paid"]
    (world.folder / "rules.yaml").write_text(RULES.replace("order paid", "money came"))
    projects.reload(world.settings({"a": project(rules="rules.yaml")}), pytest.fail)
    after = projects.route_all("one")
    assert after is before
    assert after.bridge is bridge
    assert after.digest != old
    assert [event.event for event in bridge.converter.convert(signal(name="Pay now")).events] == ["money came"]
    pinned = projects.pinned(after, old)
    assert [event.event for event in pinned.converter.convert(signal(name="Pay now")).events] == ["order paid"]
    assert projects.pinned(after, after.digest) is bridge
    assert projects.pinned(after, old) is pinned
    pinned.accept([signal(name="Pay now")])
    assert bridge.signal_stats().received == 1, "both count in the same books"
    wanted = projects.wanted("one")
    assert wanted is not None
    assert [need.text for need in wanted.traces.rules] == ["Pay now"]


def test_rules_of_the_past_survive_a_restart(world: World) -> None:
    """Another process on the same spool converts by the rules that a record names, though no file has them now."""
    (world.folder / "rules.yaml").write_text(RULES)
    first = world.projects({"a": project(rules="rules.yaml")})
    old = first.all()[0].digest
    second = world.projects({"a": project()})
    assert second.all()[0].digest == ""
    pinned = second.pinned(second.all()[0], old)
    assert [event.event for event in pinned.converter.convert(signal(name="Pay now")).events] == ["order paid"]


def test_rules_that_nobody_knows_any_more(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Today's rules serve, and a warning says so once."""
    projects = world.projects({"a": project()})
    (live,) = projects.all()
    for _ in range(3):
        assert projects.pinned(live, "0" * 32) is live.bridge
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == snapshot(
        "project a: what was spooled under rules 000000000000 is converted by those of today, "
        "which may make other events of it: No such file or directory"
    )


def test_a_new_key_takes_over_what_was_waiting(world: World) -> None:
    """The old delivery ends, its project is named, and from then on requests carry the new key."""
    world.wire.away = True
    projects = world.projects(
        {"a": project(delivery={"flush_interval": 0.01, "senders": 1, "retry_max": 0.05, "retry_initial": 0.01})}
    )
    (live,) = projects.all()
    ends = Ends()
    live.bridge.accept([signal(event="seen")], receipt=ends)
    assert world.wire.tried.wait(60)
    named: list[str] = []
    over = threading.Event()
    changed = settings_of(
        world.folder,
        {"projects": {"a": {**project(), "key": {"env": "OTHER_KEY"}}}, "drain_timeout": 0.1},
    )
    projects.reload(changed, lambda each: (named.append(each), over.set()))
    assert over.wait(60)
    assert (named, ends.open, ends.ends) == (["a"], 1, []), "still in its keeper's hands"
    world.wire.away = False
    live.bridge.accept([signal(event="seen")], receipt=ends)
    assert live.bridge.flush(60)
    assert ends.ends == [("seen", None)]
    assert {key_of(each) for each in world.wire.requests} == {"phc_world_key_two"}


def test_projects_come_and_go(world: World) -> None:
    """A project that is new takes its share at once; one that is gone takes nothing, and is handed over."""
    projects = world.projects({"a": project(match={"tokens": ["one"]}), "b": project()}, "b")
    gone: list[str] = []
    over = threading.Event()
    changed = world.settings({"b": project(), "c": project(US, match={"tokens": ["two"]})}, "b")
    projects.reload(changed, lambda each: (gone.append(each), over.set()))
    assert [each.name for each in projects.all()] == ["b", "c"]
    assert (name(projects.route_all("one")), name(projects.route_all("two"))) == ("b", "c")
    assert over.wait(60)
    assert gone == ["a"]


def test_a_spool_that_takes_no_rules_keeps_the_old(world: World) -> None:
    """Rules that cannot be kept durably are not used: what would be spooled under them could not be pinned."""
    projects = world.projects({"a": project()})
    (world.folder / "rules.yaml").write_text(RULES)
    (world.folder / "spool").mkdir(exist_ok=True)
    (world.folder / "spool" / "rules").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"exists|directory"):
        projects.reload(world.settings({"a": project(rules="rules.yaml")}), pytest.fail)
    assert projects.all()[0].digest == ""
