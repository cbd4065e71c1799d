"""`docker-compose.yml`: well-formed, closed to other machines, and its commands start (without Docker)."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SCRIPTS = Path(sys.executable).parent
BUILD = str(SERVICES["emulator"]["build"]["dockerfile_inline"])


def test_only_two_ports_are_published_and_on_loopback() -> None:
    """The emulator has no log-in (it says so itself), the shop is an example: other machines reach neither."""
    assert "--allow-remote" in SERVICES["emulator"]["command"]
    assert {name: service["ports"] for name, service in SERVICES.items()} == {
        "emulator": ["127.0.0.1:8765:8765"],
        "shop": ["127.0.0.1:5001:5001"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined_and_checked(name: str) -> None:
    """Not root, nothing writable but /tmp, no capabilities; a health check that fails in bounded time."""
    service = SERVICES[name]

    assert (service["user"], service["read_only"], service["cap_drop"], service["tmpfs"]) == (
        "65534:65534",
        True,
        ["ALL"],
        ["/tmp"],
    )
    assert (service["image"], service["build"]) == ("otel-posthog-demo", SERVICES["emulator"]["build"])
    assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])


def test_the_image_is_built_from_what_is_here() -> None:
    """A pinned base, hash-pinned packages, and no file that the checkout lacks; nothing of it runs as root."""
    copied = [word for line in re.findall(r"^COPY (.+)$", BUILD, re.MULTILINE) for word in line.split()[:-1]]

    assert BUILD.startswith("FROM python:3.12-slim\n")
    assert "--require-hashes -r requirements/demo.txt" in BUILD
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert BUILD.rstrip().endswith("USER 65534:65534")


def local(word: str, ports: dict[str, int]) -> str:
    """A word of the file as it is meant on this machine: our programs, our ports, loopback instead of the network."""
    for inside, outside in (("8765", ports["emulator"]), ("5001", ports["shop"])):
        word = re.sub(rf"\b{inside}\b", str(outside), word)
    word = word.replace("http://emulator:", "http://127.0.0.1:").replace("0.0.0.0", "127.0.0.1")
    return str(SCRIPTS / word) if (SCRIPTS / word).is_file() else word


@contextlib.contextmanager
def started(name: str, ports: dict[str, int]) -> Iterator[None]:
    """A service as a local process, healthy by its own check, ended by SIGTERM as Docker ends it."""
    service = SERVICES[name]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "POSTHOG_"))}
    own = {key: local(value, ports) for key, value in service.get("environment", {}).items()}
    environ = {**clean, **own, "PATH": f"{SCRIPTS}{os.pathsep}{clean.get('PATH', '')}"}
    process = subprocess.Popen(
        [local(word, ports) for word in service["command"]],
        cwd=ROOT / "examples" / "shop",
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    check = [local(word, ports) for word in service["healthcheck"]["test"][1:]]
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(check, env=environ, capture_output=True, timeout=30, check=False).returncode:
            assert process.poll() is None, f"{name} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{name} does not become healthy"
        yield
        assert process.poll() is None, f"{name} ended with {process.returncode}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(180)
def test_its_commands_and_variables_work_as_local_processes() -> None:
    """Both become healthy by the file's own checks, and a page of the shop is an event at the emulator."""
    ports = {"emulator": free_port(), "shop": free_port()}
    with started("emulator", ports), started("shop", ports):
        urllib.request.urlopen(f"http://127.0.0.1:{ports['shop']}/", timeout=10).close()
        assert seen_at(ports["emulator"]) == {"$pageview"}


def seen_at(port: int) -> set[str]:
    """The events' names, as soon as there are any."""
    import json

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events", timeout=10) as answer:
            if names := {event["event"] for event in json.load(answer)["results"]}:
                return names
        time.sleep(0.05)
    return set()
