"""Questions about flags trust, and show, the files of the lane where both lead to the same host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("posthog")
import requests
import trustme
from posthog import request as sdk_request
from requests.exceptions import SSLError

from otel_posthog.config.flags import FlagsTarget, flags_target
from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import FlagsConfig
from otel_posthog.flags.asking import Asking
from otel_posthog.flags.who import Who
from tests.unit.delivery.loopback import Handler, Seen
from tests.unit.delivery.secured import Secured, client_files

RECORD: dict[str, Any] = {
    "key": "new-ui",
    "enabled": True,
    "variant": None,
    "reason": {"code": "condition_match", "condition_index": 0, "description": "matched"},
    "metadata": {"id": 1, "version": 1, "payload": None},
}
DEFINITION = {
    "id": 1,
    "key": "new-ui",
    "active": True,
    "filters": {"groups": [{"properties": [], "rollout_percentage": 100}]},
}
ADA = Who("ada", here=True, trace_id="")


def flag_service(handler: Handler, seen: Seen) -> None:
    """What PostHog answers flag clients."""
    remote = seen.path.startswith("/flags/?")
    body = {"flags": {"new-ui": RECORD}} if remote else {"flags": [DEFINITION], "group_type_mapping": {}, "cohorts": {}}
    handler.reply(200, json.dumps(body).encode(), Content_Type="application/json")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A PostHog behind an authority of its own, which lets in who it knows."""
    monkeypatch.setattr(Handler, "do_GET", Handler.do_POST, raising=False)
    clients = trustme.CA()
    server = Secured(tmp_path, clients=clients, newest=False)
    server.default = flag_service
    server.files = client_files(clients, tmp_path)  # type: ignore[attr-defined]
    server.start()
    yield server
    server.stop()


def target_of(server: Any, **more: str) -> FlagsTarget:
    """The target of an environment with the standard variables."""
    certificate, key = server.files
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{server.url}/i",
        "OTEL_EXPORTER_OTLP_TOKEN": "phc_tls",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(server.ca_file),
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(certificate),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(key),
        "OTEL_POSTHOG_MODE": "direct",
        **more,
    }
    target, why = flags_target(load_settings(environ))
    assert target is not None, why
    return target


@pytest.fixture
def asking() -> Any:
    """Makes what asks; closed at the end."""
    made: list[Asking] = []

    def make(target: FlagsTarget) -> Asking:
        made.append(Asking(target, FlagsConfig(timeout=30.0, cooldown=0.0), lambda _message: None))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[[FlagsTarget], Asking]


@pytest.mark.parametrize("secret", ["", "phx_tls"], ids=["remote", "local"])
def test_the_files_of_the_lane_count(served: Any, asking: Make, secret: str) -> None:
    """For questions and for definitions, also when the SDK has made its sessions anew, as after a fork."""
    target = target_of(served, OTEL_POSTHOG_FLAGS_SECRET_KEY=secret)
    one = asking(target)

    for _ in range(2):
        assert one.find(ADA, "new-ui").answer("new-ui", counts=False).value is True
        sdk_request.reset_sessions()
    assert {seen.path.partition("?")[0] for seen in served.seen} == {"/flags/definitions" if secret else "/flags/"}


def test_other_hosts_and_times_are_as_they_were(served: Any, asking: Make) -> None:
    """The adapter is there for one host, until nobody asks any more; without it the host is not trusted."""
    before = {name: dict(getattr(sdk_request, name).adapters) for name in ("_session", "_flags_session")}
    one = asking(target_of(served))
    assert one.find(ADA, "new-ui").answer("new-ui", counts=False).value is True
    one.find(ADA, "new-ui")
    for name, adapters in before.items():
        found = dict(getattr(sdk_request, name).adapters)
        assert {prefix: adapter for prefix, adapter in found.items() if not prefix.startswith(served.url)} == adapters
        assert len(found) == len(adapters) + 1

    one.close()
    assert {name: dict(getattr(sdk_request, name).adapters) for name in before} == before
    with pytest.raises(SSLError):
        requests.get(f"{served.url}/flags/definitions", timeout=30)


def test_files_belong_to_their_host(served: Any) -> None:
    """A host of flags of its own, or a Collector's lane, has nothing to do with them."""
    elsewhere = target_of(
        served, OTEL_POSTHOG_FLAGS_HOST="https://eu.i.posthog.com", OTEL_POSTHOG_FLAGS_TOKEN="phc_other"
    )
    behind = target_of(
        served,
        OTEL_POSTHOG_MODE="collector",
        OTEL_POSTHOG_FLAGS_HOST="https://posthog.example",
        OTEL_POSTHOG_FLAGS_TOKEN="phc_other",
    )
    assert (elsewhere.ca_file, elsewhere.client_cert, elsewhere.client_key) == ("", "", "")
    assert (behind.ca_file, behind.client_cert, behind.client_key) == ("", "", "")
