"""Signals, and when files are read again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.reload import Watch, signature_of
from otel_posthog.gateway.process.running import Wishes, reload_once, run_gateway


class Service:
    """A service that notes what is asked of it."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.calls: list[Any] = []

    def start(self) -> None:
        """See `GatewayService`."""
        self.calls.append("start")

    def reload(self, settings: Any) -> None:
        """See `GatewayService`."""
        if self.fails is not None:
            raise self.fails
        self.calls.append(("reload", settings.source))

    def reload_failed(self, why: str) -> None:
        """See `GatewayService`."""
        self.calls.append(("failed", why))

    def stop(self) -> None:
        """See `GatewayService`."""
        self.calls.append("stop")


def settings(source: str, *files: str, reload: str = "auto") -> Any:
    """What of the settings is looked at here."""
    return SimpleNamespace(source=source, files=files, seen=(), reload=reload)


def run(service: Service, before: Any, load: Callable[[], Any], *signals: signal.Signals) -> int:
    """Runs a gateway that sends itself these signals once it serves, then a SIGTERM."""

    def started(_: Any) -> None:
        for each in (*signals, signal.SIGTERM):
            os.kill(os.getpid(), each)

    return run_gateway(before, load, make=lambda _: service, started=started)  # type: ignore[arg-type,return-value]


def test_it_stops() -> None:
    """A SIGTERM stops it in order, and the handlers of before are back."""
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    service = Service()
    assert run(service, settings("a"), pytest.fail) == 0
    assert service.calls == ["start", "stop"]
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


def test_a_hang_up_reads_again() -> None:
    """Before the stop that came after it."""
    service = Service()
    assert run(service, settings("a", reload="signal"), lambda: settings("b"), signal.SIGHUP) == 0
    assert service.calls == ["start", ("reload", "b"), "stop"]


def test_a_worker_without_its_supervisor_stops() -> None:
    """The end of its supervisor is a wish to stop."""
    service, gone = Service(), threading.Event()
    code = run_gateway(
        settings("a"),
        pytest.fail,
        make=lambda _: service,  # type: ignore[arg-type,return-value]
        started=lambda _: gone.set(),
        orphaned=lambda: gone.wait(60),
    )
    assert (code, service.calls) == (0, ["start", "stop"])


@pytest.mark.parametrize(
    ("load", "reload", "why"),
    [
        (ConfigError("it is bad", key="projects"), None, "`projects`: it is bad"),
        (None, ConfigError("a certificate"), "a certificate"),
        (None, OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (None, KeyError("phc_canary"), "internal error (KeyError)"),
        (ZeroDivisionError("phc_canary"), None, "internal error (ZeroDivisionError)"),
    ],
)
def test_whatever_fails_the_old_stays(load: Exception | None, reload: Exception | None, why: str) -> None:
    """A gateway that serves never ends over its configuration."""
    service, before = Service(reload), settings("a")

    def read() -> Any:
        if load is not None:
            raise load
        return settings("b")

    assert reload_once(service, before, read) is before  # type: ignore[arg-type]
    assert service.calls == [("failed", why)]


def test_wishes_in_order() -> None:
    """One after the other; none after a while without any."""
    with Wishes() as wishes:
        wishes.wish("reload")
        wishes.wish("child")
        assert [wishes.next(0.0), wishes.next(0.0), wishes.next(0.0)] == ["reload", "child", None]


def test_the_second_stop_is_another_matter() -> None:
    """The first is a wish; each after it goes where it is told to."""
    second: list[int] = []
    with Wishes(forward=second.append) as wishes:
        os.kill(os.getpid(), signal.SIGTERM)
        assert wishes.next(60.0) == "stop"
        assert second == []
        os.kill(os.getpid(), signal.SIGINT)
        assert wishes.next(60.0) == "stop"
        assert second == [signal.SIGINT]


def test_what_has_changed(tmp_path: Path) -> None:
    """Written anew, replaced, removed, come back, or behind a link that leads elsewhere now: once each."""
    file, link, one, two = (tmp_path / name for name in ("file", "link", "one", "two"))
    file.write_text("a")
    one.mkdir()
    two.mkdir()
    (one / "key").write_text("1")
    (two / "key").write_text("2")
    link.symlink_to(one)
    watch = Watch([str(file), str(link / "key"), str(tmp_path / "missing")])
    assert not watch.changed()
    changes: list[Callable[[], object]] = [
        lambda: file.write_text("ab"),
        lambda: os.utime(file, ns=(1, 1)),
        file.unlink,
        lambda: file.write_text("ab"),
        lambda: (link.unlink(), link.symlink_to(two)),
        lambda: (tmp_path / "missing").write_text("here"),
    ]
    for change in changes:
        change()
        assert watch.changed()
        assert not watch.changed()


def test_other_files_are_followed(tmp_path: Path) -> None:
    """After a reload: what changed since it was read is a change, and files that are no longer used are none."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("a")
    new.write_text("a")
    read = [signature_of(str(old)), signature_of(str(new))]
    watch = Watch([str(old)])
    watch.follow([str(old), str(new)], read)
    assert not watch.changed()
    new.write_text("changed between the reading and the following")
    watch.follow([str(old), str(new)], read)
    assert watch.changed()
    watch.follow([str(new)])
    old.write_text("nobody looks")
    assert not watch.changed()


def test_a_change_before_it_serves(tmp_path: Path) -> None:
    """A file that changes while the gateway starts is read again as soon as it serves."""
    file = tmp_path / "bridge.yaml"
    file.write_text("a")
    first = SimpleNamespace(source="a", files=(str(file),), seen=(signature_of(str(file)),), reload="auto")
    file.write_text("bb")
    service, loads = Service(), []

    def load() -> Any:
        loads.append(file.read_text())
        os.kill(os.getpid(), signal.SIGTERM)
        return settings("b", str(file))

    code = run_gateway(first, load, make=lambda _: service)  # type: ignore[arg-type,return-value]
    assert (code, loads, service.calls) == (0, ["bb"], ["start", ("reload", "b"), "stop"])


def test_half_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor writes in two goes: the half that was there first may well be a good file that lacks a project."""
    monkeypatch.setattr("otel_posthog.gateway.process.running.POLL_INTERVAL", 0.01)
    monkeypatch.setattr("otel_posthog.gateway.process.running.SETTLE", 0.01)
    file = tmp_path / "bridge.yaml"
    file.write_text("whole")
    first = SimpleNamespace(source="a", files=(str(file),), seen=(signature_of(str(file)),), reload="auto")
    service, loads = Service(), []
    file.write_text("half")
    looks = iter(["half and", "half and whole"])
    before = Watch.changed

    def changed(self: Watch) -> bool:
        found = before(self)
        for text in looks:  # it goes on right after the look
            file.write_text(text)
            break
        return found

    def load() -> Any:
        loads.append(file.read_text())
        os.kill(os.getpid(), signal.SIGTERM)
        return SimpleNamespace(source="b", files=(str(file),), seen=(signature_of(str(file)),), reload="auto")

    monkeypatch.setattr(Watch, "changed", changed)
    code = run_gateway(first, load, make=lambda _: service)  # type: ignore[arg-type,return-value]
    assert (code, loads) == (0, ["half and whole"])
