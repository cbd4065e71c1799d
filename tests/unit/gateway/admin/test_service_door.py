"""The door of a real service: what it is told of threads, and what a look costs the bridge."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.gateway.admin.tail import TailFilter
from otel_posthog.gateway.configuration.bridge_file import load_gateway_settings
from otel_posthog.gateway.process.service import GatewayService
from otel_posthog.model import CaptureEvent

CONFIGURATION = """
listen: {{http: 127.0.0.1:0, grpc: off, admin: 127.0.0.1:0}}
spool: {{dir: {spool}}}
projects:
  shop: {{host: "http://127.0.0.1:9", key: {{env: KEY}}}}
"""


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body of the admin port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_receiver_whose_thread_has_ended_is_not_alive(tmp_path: Path) -> None:
    """A gateway that takes nothing any more for a bug of its own is started anew; one that stops is not."""
    pytest.importorskip("httptools")  # an extra, which the environment of the floor does without
    path = tmp_path / "bridge.yaml"
    path.write_text(CONFIGURATION.format(spool=tmp_path / "spool"))
    service = GatewayService(load_gateway_settings(str(path), {"KEY": "phc_key_of_the_shop"}))
    service.start()
    try:
        assert service.admin is not None
        port = service.admin.port
        assert ask(port, "/livez") == (200, "ok\n")

        server = service.receivers._http
        assert server is not None
        assert server._loop is not None
        server._loop.call_soon_threadsafe(server._loop.stop)
        server._thread.join(60)

        status, body = ask(port, "/livez?verbose")
        assert (status, json.loads(body)["reasons"]) == (
            503,
            [{"check": "threads", "subject": "otlp-http", "text": "a thread that should run has ended"}],
        )
        assert ask(port, "/readyz")[0] == 503
    finally:
        service.stop(1.0)


def test_what_waits_for_a_viewer_is_bounded_by_its_size_too(gateway: Any, make_signal: Any) -> None:
    """A thousand events of a megabyte would be a gigabyte: the oldest go, and are counted."""
    bridge = gateway.projects["shop"].bridge
    viewer = gateway.tail.view(TailFilter())
    megabyte = "x" * 1_000_000
    for number in range(40):
        bridge.accept([make_signal("order", number=number, text=megabyte, more=[{"a": megabyte}])])

    missed, seen = viewer.take(1_000)
    assert missed == 40 - len(seen)
    assert [each.event.properties["number"] for each in seen] == [36, 37, 38, 39]
    bridge.accept([make_signal("order", number=40, text="x" * 20_000_000)])
    assert [each.event.properties["number"] for each in viewer.take()[1]] == [40]
    assert (viewer._size, viewer.take()) == (0, (0, []))


@pytest.mark.parametrize(("looking", "submitted"), [(False, [3]), (True, [1, 1, 1])])
def test_a_tap_costs_nothing_while_nobody_looks(
    gateway: Any, make_signal: Any, looking: bool, submitted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a viewer events are submitted together, as without a tap; with one the bridge tells each by itself."""
    project = gateway.projects["shop"]
    sizes: list[int] = []
    original = project.delivery.submit

    def submit(events: Sequence[CaptureEvent], receipt: object = None) -> bool:
        sizes.append(len(events))
        return bool(original(events, receipt))

    monkeypatch.setattr(project.delivery, "submit", submit)
    viewer = gateway.tail.view(TailFilter()) if looking else None

    project.bridge.accept([make_signal("order")] * 3)
    if viewer is not None:
        assert len(viewer.take()[1]) == 3
        viewer.close()
    project.bridge.accept([make_signal("order")] * 3)

    assert sizes == [*submitted, 3]
