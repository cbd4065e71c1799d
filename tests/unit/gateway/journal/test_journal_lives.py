"""Many lives of one spool under every trouble at once: in the end nothing that was acknowledged is lost."""

from __future__ import annotations

import random
import threading
from functools import partial
from pathlib import Path

import pytest

from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.gateway.dead_letters.letters import read_letters
from otel_posthog.gateway.inbound import AnswerKind
from otel_posthog.gateway.intake import GatewayIntake
from otel_posthog.model import LossReason
from tests.fixtures.gateway_intake import HeldDelivery, Rig, merged, send, spans, until

TEAMS = ("shop", "blog", "nobody")


class Sender:
    """Sends mixed requests, and remembers what was acknowledged."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.number = 0
        self.owed: dict[str, set[int]] = {"shop": set(), "blog": set(), "nobody": set(), "bad": set()}

    def send_some(self, intake: GatewayIntake, count: int) -> None:
        """`count` requests, each once."""
        for _ in range(count):
            self._send(intake)

    def _send(self, intake: GatewayIntake) -> None:
        parts: list[bytes] = []
        said: list[tuple[str, int]] = []
        for _ in range(self.chance.randint(1, 4)):
            team = self.chance.choices(TEAMS, (6, 4, 1))[0]
            bad = team == "shop" and self.chance.random() < 0.1
            count = self.chance.randint(1, 5)
            parts.append(spans(self.number, count, team=team, event="bad" if bad else "good"))
            said.extend(("bad" if bad else team, number) for number in range(self.number, self.number + count))
            self.number += count
        answer = send(intake, merged(*parts), compress=self.chance.random() < 0.5).answer()
        assert answer.kind in (AnswerKind.OK, AnswerKind.RETRY)
        if answer.kind is AnswerKind.OK:
            for what, number in said:
                self.owed[what].add(number)


def idle(intake: GatewayIntake) -> bool:
    """Whether nothing is left to do."""
    status = intake.status()
    return not status.recovering and status.waiting_records == status.spool_records == 0


@pytest.mark.row(13, 53)
@pytest.mark.parametrize("seed", range(4))
def test_many_lives(tmp_path: Path, seed: int) -> None:
    """Stops in the middle, projects that refuse, a small spool, little memory: each acknowledged item has an end."""
    chance = random.Random(seed)
    rig = Rig(str(tmp_path / "spool"))
    rig.projects.projects.clear()
    sender = Sender(seed)
    delivered: dict[str, dict[int, str]] = {"shop": {}, "blog": {}}
    deliveries: list[HeldDelivery] = []

    def take(name: str, delivery: HeldDelivery) -> None:
        for event in delivery.delivered:
            number = int(event.distinct_id.removeprefix("person-"))
            assert delivered[name].setdefault(number, event.uuid) == event.uuid

    for life in range(6):
        last = life == 5
        rig.projects.projects.clear()
        shop, blog = rig.project("shop", chance.choice((5, 50, 10_000))), rig.project("blog", chance.choice((0, 20)))
        shop.lost = {"bad": LossReason.REJECTED}
        deliveries += [shop, blog]
        if last:
            shop.capacity = blog.capacity = 1_000_000
        else:
            shop.automatic, blog.automatic = chance.random() < 0.5, chance.random() < 0.5
        intake = rig.start(max_bytes=120_000, waiting_bytes=chance.choice((2_000, 10_000_000)))
        if not last:
            sending = threading.Thread(target=sender.send_some, args=(intake, chance.randint(5, 20)))
            sending.start()
            for _ in range(20):
                for delivery in (shop, blog):
                    delivery.settle(chance.randint(0, 8))
            sending.join()
            intake.stop(0.0)
        else:
            assert until(partial(idle, intake))
            assert intake.stop(60)
        take("shop", shop)
        take("blog", blog)
        if not last:
            for delivery in (shop, blog):  # what they still had is nobody's any more: a process has ended
                delivery.settle()
    assert sender.owed["shop"] <= delivered["shop"].keys()
    assert sender.owed["blog"] <= delivered["blog"].keys()
    letters = [kept.letter for kept in read_letters(rig.folder, OsFiles()) if kept.letter is not None]
    refused = {int(each.event.distinct_id[7:]): each for each in letters if each.event is not None}
    assert sender.owed["bad"] <= refused.keys()
    assert all(each.source is not None for each in refused.values())
    unrouted = sum(int(each.note.split()[0]) for each in letters if each.reason == "unrouted")
    assert unrouted >= len(sender.owed["nobody"])
    assert list((Path(rig.folder)).glob("0/*.log")) == []
    rig.close()
