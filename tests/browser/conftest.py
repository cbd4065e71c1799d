"""One Chromium for all tests of a worker, a local PostHog with posthog-js, and shops as processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from otel_posthog.emulator import Emulator
from tests.fixtures.chromium import Chromium, chromium
from tests.fixtures.collector import CACHE
from tests.fixtures.processes import ServerProcess

APPS = Path(__file__).parent / "apps"
TOKEN = "phc_browserTestToken"
USERS = """
default_rules: true
users:
  distinct_id: user.NAME
  groups: {company: user.company}
"""
FLAGS = {"flags": {"button": {"variants": {"green": 100}, "payloads": {"green": {"size": 3}}}, "hidden": True}}


@pytest.fixture(scope="session")
def posthog_js() -> Path:
    """The files of the real posthog-js, as `make clients` fetched them."""
    folder = CACHE / "clients" / "browser" / "package" / "dist"
    if not (folder / "array.js").exists():
        reason = f"there is no {folder}: run `make clients` first (needs npm)"
        if os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """The browser; each test takes a page with cookies of its own."""
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def emulator(posthog_js: Path) -> Iterator[Emulator]:
    """A local PostHog that serves posthog-js, flags and the configuration of a project that records sessions."""
    with Emulator(flags=FLAGS, posthog_js=posthog_js) as running:
        yield running


class Service(ServerProcess):
    """An app under `opentelemetry-instrument`, and what it sends goes to the local PostHog.

    Args:
        apps: Where the module is.
        module: Its name.
        variables: Of its environment, above the usual.
        folder: For its log and its configuration.
        emulator: Its PostHog.
    """

    def __init__(self, apps: Path, module: str, variables: dict[str, str], folder: Path, emulator: Emulator) -> None:
        folder = folder / module
        folder.mkdir()
        self._log = folder / "log"
        rules = folder / "rules.yaml"
        rules.write_text(USERS.replace("NAME", "username" if module == "shop_django" else "id"), encoding="utf-8")
        programs = Path(sys.executable).parent
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "PYTHONPATH": str(apps),
            "PYTHONUNBUFFERED": "1",
            "SHOP_DATABASE": str(folder / "shop.sqlite3"),
            "DJANGO_SETTINGS_MODULE": "shop_django",
            "OTEL_SERVICE_NAME": module.partition("_")[0],
            "OTEL_POSTHOG_MODE": "direct",
            "OTEL_EXPORTER_OTLP_ENDPOINT": emulator.endpoint,
            "OTEL_EXPORTER_OTLP_TOKEN": TOKEN,
            "OTEL_POSTHOG_CONFIG": str(rules),
            "OTEL_POSTHOG_FLAGS_TIMEOUT": "30",
            "OTEL_METRICS_EXPORTER": "none",
            **variables,
        }
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            number = listener.fileno()
            command = [str(programs / "opentelemetry-instrument"), sys.executable, str(APPS / "serve.py"), module]
            self._out = self._log.open("ab")
            self.process = subprocess.Popen(
                [*command, str(number)], env=environment, stdout=self._out, stderr=self._out, pass_fds=[number]
            )

    @property
    def text(self) -> str:
        """Everything it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def until_up(self) -> None:
        """Returns when it answers; asked for what no rule takes for use of the app."""
        with suppress(HTTPError):
            urlopen(f"{self.url}/healthz", timeout=120).close()


@pytest.fixture
def serve(tmp_path: Path, emulator: Emulator) -> Iterator[Callable[..., Service]]:
    """Starts apps; they end with the test."""
    started: list[Service] = []

    def start(module: str = "shop_flask", *, folder: Path = APPS, **variables: str) -> Service:
        started.append(Service(folder, module, variables, tmp_path, emulator))
        return started[-1]

    yield start
    for one in started:
        one.stop()
