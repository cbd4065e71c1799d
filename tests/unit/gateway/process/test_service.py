"""The whole gateway in this process, over HTTP and gRPC, to the emulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsPartialDict

from otel_posthog.emulator import Emulator, Fault
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.sources import Phase
from otel_posthog.gateway.configuration.bridge_file import load_gateway_settings
from otel_posthog.gateway.configuration.reload import Watch
from otel_posthog.gateway.process.running import reload_once
from otel_posthog.gateway.process.service import GatewayService, changed_at_start_only, secrets_of
from tests.unit.gateway.gateway_world import KEYS, admin, otlp, post, project, send_grpc, settings_of

RULES = "rules:\n  - {name: paid, match: {name: Pay now}, capture: order paid, distinct_id: ada}\n"

Serve = Callable[..., GatewayService]


@pytest.fixture
def posthog() -> Iterator[Emulator]:
    """A local PostHog."""
    for package in ("grpc", "httptools", "prometheus_client", "starlette"):
        pytest.importorskip(package)  # extras, which the environment of the floor does without
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a gateway with some settings; it is stopped at the end."""
    running: list[GatewayService] = []

    def start(document: dict[str, Any], **more: Any) -> GatewayService:
        running.append(GatewayService(settings_of(tmp_path, document), **more))
        running[-1].start()
        return running[-1]

    yield start
    for service in running:
        service.stop(1.0)


def http(service: GatewayService) -> str:
    """Base of OTLP/HTTP."""
    return f"http://127.0.0.1:{service.receivers.http_port}"


def door(service: GatewayService) -> str:
    """Base of the admin listener."""
    assert service.admin is not None
    return service.admin.url


def names(emulator: Emulator, token: str = "phc_world_key_one") -> list[str]:
    """Names of the events of one project."""
    return sorted(event["event"] for event in emulator.events() if event["token"] == token)


def test_from_end_to_end(serve: Serve, posthog: Emulator) -> None:
    """A span over HTTP and one over gRPC are one event each; untagged ones are none; the books say so."""
    service = serve({"projects": {"shop": project(posthog.url)}})
    assert post(http(service), otlp("over http")) == (200, {})
    assert post(http(service), otlp()) == (200, {})
    answer = send_grpc(service.receivers.grpc_port or 0, otlp("over grpc", span_id="b7ad6b7169203332"))
    assert not answer.HasField("partial_success")
    posthog.wait_for(lambda emulator: len(names(emulator)) == 2)
    assert names(posthog) == ["over grpc", "over http"]
    assert admin(door(service), "/readyz") == (200, "ok\n")
    assert admin(door(service), "/livez") == (200, "ok\n")
    delivered = 'otel_posthog_events_delivered_total{project="shop",worker="0"} 2.0'
    wait_until(lambda: delivered in admin(door(service), "/metrics")[1])
    text = admin(door(service), "/metrics")[1]
    assert 'otel_posthog_config_last_reload_successful{worker="0"} 1.0' in text
    assert service.stop(60)
    assert service.stop(60), "a second stop does nothing"
    assert service.phase is Phase.STOPPING


@pytest.mark.parametrize(("wanted", "made"), [(True, [Phase.STARTING]), (False, [])])
def test_what_reads_user_agents_is_made_before_it_is_ready(
    tmp_path: Path, posthog: Emulator, monkeypatch: pytest.MonkeyPatch, *, wanted: bool, made: list[Phase]
) -> None:
    """No event waits for the matchers of user agents; where no project reads any, there are none."""
    shop = project(posthog.url, convert={"request_context": wanted})
    service = GatewayService(settings_of(tmp_path, {"projects": {"shop": shop}}))
    seen: list[Phase] = []
    monkeypatch.setattr("otel_posthog.gateway.process.service.warm_user_agents", lambda: seen.append(service.phase))
    service.start()
    try:
        assert (seen, service.phase) == (made, Phase.SERVING)
    finally:
        service.stop(1.0)


def test_two_projects_in_two_regions(serve: Serve, posthog: Emulator) -> None:
    """By token and by resource; each event reaches its own host with its own key, and no other."""
    with Emulator() as other:
        service = serve(
            {
                "tokens": {"web": {"env": "TOKEN"}, "agents": {"env": "TOKEN_TWO"}},
                "projects": {
                    "web": project(posthog.url, match={"tokens": ["web"]}),
                    "us": project(other.url, "OTHER_KEY", match={"resource": {"zone": "us"}}),
                    "rest": project(posthog.url, "OTHER_KEY"),
                },
                "default_project": "rest",
            }
        )
        url = http(service)
        assert post(url, otlp("from web", resource={"zone": "us"}), token=KEYS["TOKEN"])[0] == 200
        assert post(url, otlp("from us", resource={"zone": "us"}), token=KEYS["TOKEN_TWO"])[0] == 200
        assert post(url, otlp("from elsewhere"), token=KEYS["TOKEN_TWO"])[0] == 200
        assert post(url, otlp("from nobody"), token="wrong-token")[0] == 401
        assert post(url, otlp("from nobody"))[0] == 401
        posthog.wait_for(lambda emulator: len(emulator.events()) == 2)
        other.wait_for(lambda emulator: len(emulator.events()) == 1)
        assert (names(posthog), names(posthog, "phc_world_key_two"), names(other, "phc_world_key_two")) == (
            ["from web"],
            ["from elsewhere"],
            ["from us"],
        )


def test_a_caller_of_no_project(serve: Serve, posthog: Emulator) -> None:
    """Its token is good, and yet nothing of it is anybody's: 403, before anything is kept."""
    service = serve(
        {
            "tokens": {"web": {"env": "TOKEN"}, "stranger": {"env": "TOKEN_TWO"}},
            "projects": {"web": project(posthog.url, match={"tokens": ["web"]})},
        }
    )
    status, answer = post(http(service), otlp("seen"), token=KEYS["TOKEN_TWO"])
    assert (status, answer) == (403, IsPartialDict({"message": "this credential belongs to no project"}))


def test_forward_answers_after_posthog(serve: Serve, posthog: Emulator) -> None:
    """With `acknowledge: forward` a 200 means delivered, and no request is written to disk."""
    service = serve({"acknowledge": "forward", "projects": {"shop": project(posthog.url)}})
    assert post(http(service), otlp("delivered")) == (200, {})
    assert names(posthog) == ["delivered"], "no waiting: it is there when the answer is"
    assert list(Path(service.settings.spool.folder).rglob("*.log")) == []


@pytest.mark.row(4)
def test_a_revoked_key_and_its_successor(serve: Serve, posthog: Emulator, tmp_path: Path) -> None:
    """PostHog refuses the key: callers hear nothing of it, readiness is red; a new key in the file delivers all."""
    key = tmp_path / "key"
    key.write_text("phc_world_key_one\n")
    document = {"projects": {"shop": {**project(posthog.url), "key": {"file": "key"}}}}
    service = serve(document)
    watch = Watch(service.settings.files)
    posthog.script(Fault(action="status", status=401))
    group = {"posthog.groups.company": "acme", "posthog.group_set.company.plan": "pro"}
    assert post(http(service), otlp("kept", **group)) == (200, {})
    wait_until(lambda: admin(door(service), "/readyz")[0] == 503)
    assert "PostHog takes nothing" in admin(door(service), "/readyz?verbose")[1]
    assert not watch.changed()
    key.write_text("phc_world_key_two_\n")
    assert watch.changed()
    path = str(tmp_path / "bridge.yaml")
    settings = reload_once(service, service.settings, lambda: load_gateway_settings(path, KEYS))
    assert settings.projects[0].lane.token.reveal() == "phc_world_key_two_"
    wait_until(lambda: not any("retire" in thread.name for thread in threading.enumerate()))
    posthog.script()
    posthog.wait_for(lambda emulator: names(emulator, "phc_world_key_two_") == ["$groupidentify", "kept"])
    wait_until(lambda: admin(door(service), "/readyz")[0] == 200)
    assert service.stop(60)


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Returns when it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.02)


def test_a_reload_of_rules_and_tokens(serve: Serve, posthog: Emulator, tmp_path: Path) -> None:
    """New rules and tokens hold from then on; no request fails meanwhile, and the books go on."""
    (tmp_path / "rules.yaml").write_text(RULES)
    document: dict[str, Any] = {
        "tokens": {"web": {"env": "TOKEN"}},
        "projects": {"shop": project(posthog.url, rules="rules.yaml")},
    }
    service = serve(document)
    url = http(service)
    assert post(url, otlp(name="Pay now"), token=KEYS["TOKEN"])[0] == 200
    posthog.wait_for(lambda emulator: names(emulator) == ["order paid"])
    (tmp_path / "rules.yaml").write_text(RULES.replace("order paid", "money came"))
    changed = settings_of(tmp_path, {**document, "tokens": {"web": {"env": "TOKEN_TWO"}}, "workers": 7})
    settings = reload_once(service, service.settings, lambda: changed)
    assert settings is changed
    assert post(url, otlp(name="Pay now"), token=KEYS["TOKEN"])[0] == 401
    assert post(url, otlp(name="Pay now", span_id="b7ad6b7169203335"), token=KEYS["TOKEN_TWO"])[0] == 200
    posthog.wait_for(lambda emulator: names(emulator) == ["money came", "order paid"])
    assert service.books.count("config_reloads", result="ok") == 1


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("rules.yaml", "rules: [\n", "this is not YAML"),
        ("rules.yaml", "rules:\n  - {name: paid, match: {name: a}, captur: b}\n", "unknown key `captur`"),
        ("key", "", "is empty"),
        ("bridge.yaml", "lissen: 1\n", "unknown key `lissen`"),
    ],
)
def test_a_bad_reload_keeps_the_old(
    serve: Serve, posthog: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, text: str, said: str
) -> None:
    """What is bad is said, in the log and in the metrics; everything goes on as before, ready all the time."""
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "key").write_text("phc_world_key_one")
    shop = {**project(posthog.url, rules="rules.yaml"), "key": {"file": "key"}}
    service = serve({"projects": {"shop": shop}})
    before = service.settings
    (tmp_path / file).write_text(text)
    path = str(tmp_path / "bridge.yaml")
    assert reload_once(service, before, lambda: load_gateway_settings(path, KEYS)) is before
    assert any(said in record.getMessage() for record in caplog.records)
    assert service.books.count("config_reloads", result="failed") == 1
    assert 'otel_posthog_config_last_reload_successful{worker="0"} 0.0' in admin(door(service), "/metrics")[1]
    assert admin(door(service), "/readyz")[0] == 200
    assert post(http(service), otlp(name="Pay now")) == (200, {})
    posthog.wait_for(lambda emulator: names(emulator) == ["order paid"])


@pytest.mark.row(39)
def test_reloads_under_load_lose_nothing(serve: Serve, posthog: Emulator, tmp_path: Path) -> None:
    """Keys, rules and tokens change again and again while requests come: each is taken, and each event is there."""
    (tmp_path / "rules.yaml").write_text(RULES)
    listed = {"web": [{"env": "TOKEN"}, {"env": "TOKEN_TWO"}]}
    versions = [
        {
            "tokens": listed,
            "projects": {"shop": project(posthog.url, key, rules="rules.yaml", match={"tokens": [name]})},
        }
        for key, name in (("KEY", "web"), ("OTHER_KEY", "web"))
    ]
    service = serve(versions[0])
    over = threading.Event()
    sent: list[str] = []
    failed: list[object] = []

    def send(first: int) -> None:
        number = first
        while not over.is_set():
            name = f"event {number}"
            status, answer = post(http(service), otlp(name, span_id=f"{number:016x}"), token=KEYS["TOKEN"])
            (sent if status == 200 else failed).append(name if status == 200 else answer)
            number += 2

    senders = [threading.Thread(target=send, args=(first,)) for first in (1, 2)]
    for sender in senders:
        sender.start()
    for turn in range(6):
        changed = settings_of(tmp_path, versions[(turn + 1) % 2])
        assert reload_once(service, service.settings, lambda changed=changed: changed) is changed
        known = len(sent)
        wait_until(lambda known=known: len(sent) >= known + 10)
    over.set()
    for sender in senders:
        sender.join()
    assert failed == []
    posthog.wait_for(lambda emulator: {event["event"] for event in emulator.events()} >= set(sent), timeout=60)
    assert {event["event"] for event in posthog.events()} == set(sent)
    uuids = {(event["token"], event["event"]): event["uuid"] for event in posthog.events()}
    assert len({*uuids.values()}) == len(sent), "handed out again, it is the same event"
    assert service.stop(60)


@pytest.mark.row(17)
def test_a_second_gateway_on_the_same_spool(serve: Serve, posthog: Emulator, tmp_path: Path) -> None:
    """It refuses to start and says why; the first one is none the worse."""
    document = {"projects": {"shop": project(posthog.url)}}
    first = serve(document)
    second = GatewayService(settings_of(tmp_path, document))
    with pytest.raises(ConfigError, match="is in use by another process"):
        second.start()
    assert post(http(first), otlp("still here")) == (200, {})
    posthog.wait_for(lambda emulator: names(emulator) == ["still here"])


@pytest.mark.row(18)
def test_what_cannot_be_delivered_in_time_stays(serve: Serve, posthog: Emulator) -> None:
    """A stop while PostHog is away is bounded and says what is left; the next start delivers it, once."""
    posthog.script(Fault(action="status", status=503))
    document = {"projects": {"shop": project(posthog.url)}}
    service = serve(document)
    assert post(http(service), otlp("late")) == (200, {})
    assert not service.stop(0.5)
    posthog.script()
    again = serve(document)
    posthog.wait_for(lambda emulator: names(emulator) == ["late"])
    assert again.stop(60)
    assert names(posthog) == ["late"]


def test_a_port_that_is_taken(serve: Serve, posthog: Emulator, tmp_path: Path) -> None:
    """It is said which, and what was opened before is closed again: the rest of the process is not littered."""
    first = serve({"projects": {"shop": project(posthog.url)}})
    taken = f"127.0.0.1:{first.receivers.http_port}"
    free = "127.0.0.1:0"
    settings = settings_of(
        tmp_path,
        {
            "listen": {"http": taken, "grpc": free, "admin": free},
            "spool": {"dir": str(tmp_path / "other")},
            "projects": {"shop": project(posthog.url)},
        },
    )
    with pytest.raises(ConfigError, match="listen"):
        GatewayService(settings)


def test_what_only_a_start_changes(tmp_path: Path, posthog: Emulator) -> None:
    """A reload says which changes wait for the next start."""
    document: dict[str, Any] = {"projects": {"shop": project(posthog.url)}}
    before = settings_of(tmp_path, document)
    after = settings_of(tmp_path, {**document, "workers": 2, "acknowledge": "forward", "drain_timeout": 1})
    assert changed_at_start_only(before, after) == ["acknowledge", "workers"]
    assert changed_at_start_only(before, before) == []
    other = {"listen": {"http": "127.0.0.1:14318", "grpc": "127.0.0.1:0", "admin": "off"}, "limits": {"connections": 7}}
    assert changed_at_start_only(before, settings_of(tmp_path, {**document, **other})) == [
        "listen.http",
        "limits",
        "listen.admin",
    ]


def test_the_secrets_of_settings(tmp_path: Path, posthog: Emulator) -> None:
    """Everything that log lines are searched for."""
    settings = settings_of(
        tmp_path,
        {
            "tokens": {"web": {"env": "TOKEN"}},
            "admin_token": {"env": "TOKEN_TWO"},
            "projects": {"shop": project(posthog.url)},
        },
    )
    assert secrets_of(settings) == ["phc_world_key_one", "world-token-one", "world-token-two"]
