"""`otel-posthog spool`: an operator sees what waits and what died, and brings it back or removes it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.cli.main import main
from otel_posthog.gateway.inbound import OK
from otel_posthog.gateway.intake import GatewayIntake
from otel_posthog.model import LossReason
from tests.fixtures.gateway_intake import HeldDelivery, Rig, merged, people, send, spans, until

ESC = "evil\x1b]0;title\x07\u202e\nname"


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A gateway without receivers, that looks after its folders all the time."""
    monkeypatch.setattr("otel_posthog.gateway.journal.journal.ADOPT_INTERVAL", 0.02)
    monkeypatch.setattr("otel_posthog.gateway.journal.journal._HOUSEKEEPING", 0.02)
    made = Rig(str(tmp_path / "spool"))
    made.projects.projects.clear()
    yield made
    made.close()


@pytest.fixture
def sick(rig: Rig) -> HeldDelivery:
    """Project `shop`, whose PostHog refuses the event `bad`."""
    delivery = rig.project("shop")
    delivery.lost = {"bad": LossReason.REJECTED, ESC: LossReason.DROPPED_BY_SERVER}
    rig.project("blog")
    return delivery


def died(rig: Rig, intake: GatewayIntake) -> None:
    """Four dead letters of three reasons, in two projects, and nothing else."""
    assert send(intake, spans(0, 2, team="shop", event="bad")).answer() == OK
    assert send(intake, spans(2, 1, team="shop", event=ESC)).answer() == OK
    assert send(intake, merged(spans(3, 1, team="blog"), spans(4, 2, team="nobody"))).answer() == OK
    assert until(lambda: sum(intake.status().dead_letters.values()) == 4)
    assert until(lambda: intake.status().waiting_records == 0)


def spool(rig: Rig, *words: str) -> int:
    """Runs the command."""
    command, *rest = words
    return main(["spool", command, "--spool", rig.folder, *rest])


def listed(rig: Rig, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What `list --json` says."""
    capsys.readouterr()
    assert spool(rig, "list", "--json", *words) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.row(42)
def test_list_for_people(rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits by folder, dead letters by reason and project, what each reason means; one escaped line for each."""
    died(rig, rig.start())
    assert spool(rig, "list", "--letters") == 0
    out = capsys.readouterr().out
    for text in ("rejected", "dropped_by_server", "unrouted", "shop", "PostHog refused the event", "dead/0/1/"):
        assert text in out
    assert all(line.isprintable() for line in out.splitlines())
    assert "\x1b" not in out


def test_list_for_machines(rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as JSON; a selection holds for the letters; waiting records are counted by folder."""
    intake = rig.start()
    died(rig, intake)
    sick.automatic = False
    assert send(intake, spans(10, 1, team="shop")).answer() == OK
    assert until(lambda: [each["records"] for each in listed(rig, capsys)["folders"]] == [1])
    found = listed(rig, capsys)
    assert [(each["reason"], each["project"], each["letters"]) for each in found["dead_letters"]] == [
        ("dropped_by_server", "shop", 1),
        ("rejected", "shop", 2),
        ("unrouted", "", 1),
    ]
    assert [(each["name"], each["records"]) for each in found["folders"]] == [("0", 1)]
    chosen = listed(rig, capsys, "--reason", "rejected", "--letters")
    assert [letter["event"] for letter in chosen["letters"]] == ["bad", "bad"]
    assert listed(rig, capsys, "--project", "blog")["dead_letters"] == []
    intake.stop(0.0)
    assert [(each["name"], each["records"]) for each in listed(rig, capsys)["folders"]] == [("0", 1)]


@pytest.mark.row(42)
def test_show(rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str]) -> None:
    """A letter with its event and the item it was made from; a waiting record with its items; nothing acts on the
    terminal.
    """
    intake = rig.start()
    died(rig, intake)
    letter = listed(rig, capsys, "--reason", "dropped_by_server", "--letters")["letters"][0]
    assert spool(rig, "show", letter["id"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    shown = json.loads(out)
    assert shown["event"]["event"].startswith("evil")
    assert shown["event"]["distinct_id"] == "person-2"
    assert [item["name"] for item in shown["source"]["items"]] == ["span 2"]
    sick.automatic = False
    assert send(intake, spans(10, 1, team="shop")).answer() == OK
    from otel_posthog.delivery.spool_files import OsFiles
    from otel_posthog.gateway.dead_letters.spool_view import waiting

    assert until(lambda: len(list(waiting(rig.folder, "0", OsFiles()))) == 1)
    (record,) = list(waiting(rig.folder, "0", OsFiles()))
    assert spool(rig, "show", record.id, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["source"]["items"][0]["attributes"]["posthog.distinct_id"] == "person-10"
    assert spool(rig, "show", "dead/0/99/8") == 1
    assert spool(rig, "show", "0/99/8") == 1


def test_replay_beside_a_running_gateway(rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str]) -> None:
    """PostHog takes them by now: the same events with the same uuids arrive, and the letters are gone."""
    intake = rig.start()
    died(rig, intake)
    refused = {event.uuid: event for event in sick.failed}
    sick.lost = {}
    assert spool(rig, "replay", "--project", "shop") == 0
    assert "3 to be delivered, as they are" in capsys.readouterr().out
    assert until(lambda: len(sick.delivered) == 3)
    assert {event.uuid: event for event in sick.delivered} == refused
    assert until(lambda: intake.status().dead_letters == {"unrouted": 1})
    assert until(lambda: intake.status().orphans == 0)
    assert [each["reason"] for each in listed(rig, capsys)["dead_letters"]] == ["unrouted"]
    assert intake.stop(60)
    assert sorted(path.name for path in Path(rig.folder).iterdir()) == ["dead"]


def test_replay_while_nothing_runs(rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str]) -> None:
    """A project that the configuration knows by now: the next gateway delivers; what went before is the same event."""
    intake = rig.start()
    died(rig, intake)
    intake.stop(5)
    known = rig.project("nobody")
    assert spool(rig, "replay", "--reason", "unrouted") == 0
    assert [each["reason"] for each in listed(rig, capsys)["dead_letters"]] == ["dropped_by_server", "rejected"]
    again = rig.start()
    assert until(lambda: people(known.delivered) == [4, 5])
    blog = next(project for project in rig.projects.projects if project.name == "blog").delivery
    assert until(lambda: len(blog.delivered) == 2)
    assert len({event.uuid for event in blog.delivered}) == 1
    assert until(lambda: again.status().waiting_records == 0)
    assert again.status().dead_letters == {"dropped_by_server": 1, "rejected": 2}


def test_replay_converts_anew(rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str]) -> None:
    """From their source by the rules of today, which is said; what is refused once more is a letter again, whole."""
    intake = rig.start()
    died(rig, intake)
    assert spool(rig, "replay", "--reason", "rejected", "--convert") == 0
    out = capsys.readouterr().out
    assert "2 to be delivered, by the rules of today: where these make other events" in out
    assert until(lambda: len(sick.failed) == 5)
    # As the command sees it: the gateway may not have followed it yet.
    assert until(lambda: [each["letters"] for each in listed(rig, capsys)["dead_letters"]] == [1, 2, 1])
    sick.lost = {}
    assert spool(rig, "replay", "--reason", "rejected", "--convert") == 0
    assert until(lambda: sorted(people(sick.delivered)) == [0, 1])


def test_a_replayed_event_that_is_refused_again_keeps_its_source(
    rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replayed as it is and refused: a letter again, with the item that it was made from."""
    intake = rig.start()
    died(rig, intake)
    assert spool(rig, "replay", "--reason", "dropped_by_server") == 0
    assert until(lambda: len(sick.failed) == 4)
    # As the command sees it: the gateway may not have followed it yet.
    assert until(lambda: [each["letters"] for each in listed(rig, capsys)["dead_letters"]] == [1, 2, 1])
    sick.lost = {}
    assert spool(rig, "replay", "--reason", "dropped_by_server", "--convert") == 0
    assert until(lambda: people(sick.delivered) == [2])


def test_discard(
    rig: Rig, sick: HeldDelivery, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks, or is told --yes; the bytes are given back, beside a running gateway and without one."""
    intake = rig.start()
    died(rig, intake)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert spool(rig, "discard", "--reason", "rejected") == 2
    assert "2 dead letters would be removed for good: say --yes" in capsys.readouterr().err
    assert spool(rig, "discard", "--reason", "rejected", "--yes") == 0
    assert until(lambda: intake.status().dead_letters == {"dropped_by_server": 1, "unrouted": 1})
    intake.stop(5)
    assert spool(rig, "discard", "--all", "--yes") == 0
    assert listed(rig, capsys)["dead_letters"] == []
    assert list((Path(rig.folder) / "dead" / "0").glob("*.log")) == []
    assert spool(rig, "discard", "--all", "--yes") == 1


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 4), ("", 1, 4)])
def test_discard_asks(
    rig: Rig,
    sick: HeldDelivery,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    left: int,
) -> None:
    """Only a yes is a yes."""
    died(rig, rig.start())

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert spool(rig, "discard", "--all") == code
    assert sum(each["letters"] for each in listed(rig, capsys)["dead_letters"]) == left


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_nothing_is_meant_by_accident(rig: Rig, sick: HeldDelivery, command: str) -> None:
    """Without a selection: wrong usage, and nothing happens."""
    died(rig, rig.start())
    assert spool(rig, command) == 2


def test_no_such_spool(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the folder and the option."""
    assert spool(rig, "list") == 1
    assert "there is no such folder. Name the gateway's spool with --spool" in capsys.readouterr().err
    Path(rig.folder).mkdir()
    assert spool(rig, "list") == 0
    assert "nothing waits" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_root_acts_as_the_spools_owner(rig: Rig, sick: HeldDelivery, tmp_path: Path) -> None:
    """What root makes in a spool belongs to its gateway, and a link that lies there leads nowhere."""
    intake = rig.start()
    died(rig, intake)
    intake.stop(5)
    precious = tmp_path / "precious"
    precious.write_text("root's own")
    letters = Path(rig.folder) / "dead" / "0"
    (letters / "cursor").unlink(missing_ok=True)
    (letters / "cursor").symlink_to(precious)
    for path in (Path(rig.folder), *Path(rig.folder).rglob("*")):
        os.chown(path, 12_345, 12_345, follow_symlinks=False)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o777 == 0o700:
            path.chmod(0o711)
    assert spool(rig, "replay", "--all") == 0
    made = [path for path in Path(rig.folder).rglob("*") if "replay-" in str(path)]
    assert len(made) >= 3
    assert {path.stat().st_uid for path in made} == {12_345}
    assert precious.read_text() == "root's own"
    assert precious.stat().st_uid == 0
    assert os.geteuid() == 0
