"""`docker-compose.yml`: well-formed, closed to other machines, and its commands work together (without Docker)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.built_tools import compose_check, dockerfile_check
from tests.fixtures.collector import find_binary
from tests.fixtures.ports import free_ports

__all__ = ["compose_check", "dockerfile_check"]

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SCRIPTS = Path(sys.executable).parent
BUILD = str(SERVICES["emulator"]["build"]["dockerfile_inline"])
SHOP = ROOT / "examples" / "shop"


def test_only_the_page_is_published_and_on_loopback() -> None:
    """The emulator has no log-in (it says so itself); everything else is reached by its neighbours alone."""
    assert "--allow-remote" in SERVICES["emulator"]["command"]
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "emulator": ["127.0.0.1:8765:8765"]
    }


USERS = {"gateway": "65532:65532", "collector": "10001:10001"}
WRITABLE: dict[str, dict[str, list[str]]] = {
    "gateway": {"volumes": ["spool:/var/lib/otel-posthog/spool"]},
    "collector": {
        "volumes": ["./collector/otelcol-gateway.yaml:/etc/otelcol/otelcol-gateway.yaml:ro"],
        "tmpfs": ["/var/lib/otelcol:uid=10001,gid=10001,mode=0700,size=256m"],
    },
}
"""Everybody else may write /tmp, in memory."""


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    """Not root, a read-only root with one place to write, no capabilities, no way to gain any."""
    service = SERVICES[name]

    assert service["user"] == USERS.get(name, "65534:65534")
    assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (
        True,
        ["ALL"],
        ["no-new-privileges:true"],
    )
    writable = {key: service[key] for key in ("volumes", "tmpfs") if key in service}
    assert writable == WRITABLE.get(name, {"tmpfs": ["/tmp"]})
    assert not {"privileged", "pid", "ipc", "devices", "cap_add"} & set(service)


def test_images_are_pinned_or_built_from_what_is_here() -> None:
    """A foreign image names a version; the Collector's is the one that our tests build."""
    foreign = {name: service["image"] for name, service in SERVICES.items() if "build" not in service}
    manifest = yaml.safe_load((ROOT / "collector" / "builder-config.yaml").read_text(encoding="utf-8"))

    assert foreign == {"collector": f"otel/opentelemetry-collector-contrib:{manifest['dist']['version']}"}
    assert SERVICES["gateway"]["build"] == {"context": ".", "dockerfile": "collector/Dockerfile"}
    own = {name for name in SERVICES if name not in ("collector", "gateway")}
    assert all(SERVICES[name]["build"] == SERVICES["emulator"]["build"] for name in own)


def test_the_image_is_built_from_what_is_here() -> None:
    """A pinned base, hash-pinned packages, and no file that the checkout lacks; nothing of it runs as root."""
    copied = [word for line in re.findall(r"^COPY (.+)$", BUILD, re.MULTILINE) for word in line.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}

    assert re.match(r"FROM python:3\.\d+\.\d+-slim-\w+\n", BUILD)
    assert "--require-hashes -r requirements/demo.txt" in BUILD
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [name for name in copied if name not in allowed and not name.startswith("requirements/")] == []
    assert BUILD.rstrip().endswith("USER 65534:65534")


def test_everybody_waits_for_whom_it_needs() -> None:
    """Whoever stays has a check, or somebody who checks for it; what is waited for is there and can become healthy."""
    for name, service in SERVICES.items():
        if name not in ("collector", "visitor"):
            assert {"test", "interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == ("service_healthy" if "healthcheck" in SERVICES[needed] else "service_started")
    assert SERVICES["collector-health"]["network_mode"] == "service:collector"
    assert set(SERVICES["shop"]["depends_on"]) == {"collector-health"}


def test_no_two_services_disagree_about_a_token() -> None:
    """What one shows is what the next one asks for."""
    environment = {name: service.get("environment", {}) for name, service in SERVICES.items()}

    assert environment["shop"]["OTEL_EXPORTER_OTLP_TOKEN"] == environment["collector"]["COLLECTOR_TOKEN"]
    assert environment["collector"]["GATEWAY_TOKEN"] == environment["gateway"]["GATEWAY_TOKEN"]


def test_compose_itself_accepts_the_file(compose_check: Path) -> None:
    """Schema, merges, references and interpolation, by the loader that `docker compose` uses."""
    done = subprocess.run(
        [compose_check, ROOT / "docker-compose.yml"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(SERVICES)


def test_buildkit_accepts_the_inline_image(dockerfile_check: Path) -> None:
    """BuildKit's own parser and linter have nothing to say."""
    done = subprocess.run([dockerfile_check], input=BUILD, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")


# --- its commands, as local processes --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Local:
    """What stands in the file, as it is meant on this machine: our programs, our ports, loopback for the network.

    Args:
        ports: (service, its port in the file) -> the port here.
        folder: For spool, queue and configuration.
    """

    ports: Mapping[tuple[str, str], int]
    folder: Path

    def word(self, word: str, service: str) -> str:
        """A word of a command, a variable or a check of `service`."""
        service = {"collector-health": "collector"}.get(service, service)
        for name in SERVICES:
            for (owner, inside), outside in self.ports.items():
                if owner == name:
                    word = re.sub(rf"\b{name}:{inside}\b", f"127.0.0.1:{outside}", word)
                if owner == name == service:
                    word = re.sub(rf"\b(0\.0\.0\.0|127\.0\.0\.1):{inside}\b", f"127.0.0.1:{outside}", word)
                    word = re.sub(rf"^{inside}$", str(outside), word)
        word = word.replace("0.0.0.0", "127.0.0.1")
        word = word.replace("/var/lib/otel-posthog", str(self.folder)).replace("/var/lib/otelcol", str(self.folder))
        word = word.replace("/etc/otelcol/", f"{ROOT}/collector/").replace("/etc/otel-posthog", str(self.folder))
        return str(SCRIPTS / word) if (SCRIPTS / word).is_file() else word

    def environment(self, name: str) -> dict[str, str]:
        """All variables of a service, and nothing of the test's own."""
        own = {key: self.word(str(value), name) for key, value in SERVICES[name].get("environment", {}).items()}
        return {"PATH": f"{SCRIPTS}{os.pathsep}{os.defpath}", "HOME": str(self.folder), **own}

    def command(self, name: str) -> list[str]:
        """ENTRYPOINT and CMD."""
        entry = {"gateway": ["otel-posthog"], "collector": [str(find_binary())]}.get(name, [])
        # Its own metrics want a port that containers have each to themselves.
        more = ["--set=service::telemetry::metrics::level=none"] if name == "collector" else []
        return [self.word(word, name) for word in [*entry, *SERVICES[name]["command"]]] + more

    def check(self, name: str) -> list[str]:
        """The health check's command."""
        return [self.word(word, name) for word in SERVICES[name]["healthcheck"]["test"][1:]]


@contextlib.contextmanager
def started(local: Local, name: str) -> Iterator[None]:
    """A service as a local process, healthy by the file's own check, ended by SIGTERM as Docker ends it."""
    checked = "collector-health" if name == "collector" else name
    environ = local.environment(name)
    log = local.folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(local.command(name), cwd=SHOP, env=environ, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(
            local.check(checked), env=environ, cwd=SHOP, capture_output=True, timeout=30, check=False
        ).returncode:
            assert process.poll() is None, f"{name} ended with {process.returncode}: {log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{name} does not become healthy: {log.read_text()[-3000:]}"
        yield
        assert process.poll() is None, f"{name} ended with {process.returncode}: {log.read_text()[-3000:]}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


LISTENING = (
    ("emulator", "8765"),
    ("gateway", "4318"),
    ("gateway", "4317"),
    ("gateway", "8887"),
    ("collector", "4318"),
    ("collector", "4317"),
    ("collector", "13133"),
    ("shop", "5001"),
)


@pytest.mark.timeout(300)
def test_its_commands_and_variables_work_as_local_processes(tmp_path: Path) -> None:
    """All become healthy by the file's own checks; a visitor's journey arrives once, through Collector and gateway."""
    local = Local(dict(zip(LISTENING, free_ports(len(LISTENING)), strict=True)), tmp_path)
    content = COMPOSE["configs"]["bridge"]["content"]
    (tmp_path / "bridge.yaml").write_text(
        re.sub(r"\b[\w./-]+:\d+\b", lambda at: local.word(at[0], "gateway"), content).replace(
            "/var/lib/otel-posthog", str(tmp_path)
        )
    )
    with contextlib.ExitStack() as stack:
        for name in ("emulator", "gateway", "collector", "shop"):
            stack.enter_context(started(local, name))
        subprocess.run(local.command("visitor"), cwd=SHOP, env=local.environment("visitor"), check=True, timeout=100)

        names = seen_at(local.ports["emulator", "8765"])
        # The gateway counts an event when PostHog's answer is there, which is after it was stored.
        deadline = time.monotonic() + 60
        while (delivered := delivered_at(local.ports["gateway", "8887"])) < sum(EXPECTED.values()):
            assert time.monotonic() < deadline, delivered
            time.sleep(0.05)

    assert names == EXPECTED
    assert delivered == sum(EXPECTED.values())


def delivered_at(port: int) -> int:
    """How many events the gateway has delivered, by its own count."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    found = re.search(r'^otel_posthog_events_delivered_total\{project="demo",worker="0"\} (\d+)', metrics, re.MULTILINE)
    return int(found[1]) if found else 0


EXPECTED = {
    "$exception": 1,
    "$groupidentify": 2,
    "$identify": 3,
    "$pageview": 7,
    "api_request": 8,
    "order paid": 3,
    "sign-in failed": 1,
    "user signed in": 1,
    "user signed up": 2,
}


def seen_at(port: int) -> dict[str, int]:
    """How often each event arrived, as soon as there are as many as expected, and spans too."""
    base = f"http://127.0.0.1:{port}/api"
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, int] = {}
        with urllib.request.urlopen(f"{base}/events?limit=500", timeout=30) as answer:
            for event in json.load(answer)["results"]:
                found[event["event"]] = found.get(event["event"], 0) + 1
        with urllib.request.urlopen(f"{base}/spans", timeout=30) as answer:
            spans = json.load(answer)["results"]
        if (sum(found.values()) >= sum(EXPECTED.values()) and spans) or time.monotonic() > deadline:
            assert spans, "no span of the shop arrived by the other way"
            return found
        time.sleep(0.05)
