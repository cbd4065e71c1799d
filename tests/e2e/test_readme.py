"""The README's first path, word for word: an ordinary app, two variables, the rules that stand in the README."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from inline_snapshot import snapshot

from otel_posthog.emulator import Emulator

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = Path(sys.executable).parent
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"

# As its owner wrote it, before anybody spoke of analytics.
APP = """
import logging
from flask import Flask

logging.basicConfig(level=logging.INFO)
log = logging.getLogger(__name__)
app = Flask(__name__)

@app.get("/")
def home():
    return "<h1>Mugs</h1>"

@app.post("/checkout")
def checkout():
    log.info("order paid", extra={"user_id": 42, "total": 29.0, "sku": "mug", "company": "Alpine Ltd"})
    return {"paid": True}

@app.get("/broken")
def broken():
    return {}["key"]

@app.get("/healthz")
def healthz():
    return "ok"
"""


def blocks(language: str) -> list[str]:
    """The README's code blocks in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


RULES = next(block for block in blocks("yaml") if "rules:" in block)
SHELL = next(block for block in blocks("sh") if "OTEL_EXPORTER_OTLP_TOKEN" in block)


@pytest.fixture(name="arrived")
def _arrived(tmp_path: Path) -> Iterator[Emulator]:
    """The emulator after a visit to the app, started by the README's command and stopped with Ctrl-C."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "otel-posthog.yaml").write_text(RULES)
    # The command of the README without its comment; only the port is ours.
    command = shlex.split(next(line for line in SHELL.splitlines() if "flask run" in line), comments=True)
    names = re.findall(r"^export (\w+)=", SHELL, re.MULTILINE)
    with Emulator() as posthog:
        variables = dict(zip(names, (posthog.endpoint, "phc_readme"), strict=True))
        process = subprocess.Popen(
            [str(SCRIPTS / command[0]), str(SCRIPTS / command[1]), *command[2:], "--port", "0"],
            cwd=tmp_path,
            env={
                **variables,
                "OTEL_POSTHOG_CONFIG": "otel-posthog.yaml",
                "PATH": str(SCRIPTS),
                "PYTHONUNBUFFERED": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            head, url = "", ""
            while not url:
                line = process.stdout.readline()
                assert line, head
                head += line
                url = "".join(re.findall(r"http://127\.0\.0\.1:\d+", line))
            assert "otel" not in head.replace("otel-posthog", "").lower()
            assert [visit(url, path) for path in ("/healthz", "/", "/broken")] == [200, 200, 500]
            assert visit(url, "/checkout", b"{}") == 200
            posthog.wait_for(lambda it: len(it.events()) >= 5, timeout=60)
        finally:
            process.terminate()
            process.communicate(timeout=30)
        yield posthog


def visit(url: str, path: str, body: bytes | None = None) -> int:
    """The status of one request by a browser."""
    request = urllib.request.Request(url + path, body, {"User-Agent": FIREFOX})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.timeout(120)
def test_the_service_owners_path(arrived: Emulator) -> None:
    """Page views, the order by the README's rule with its person and company, and one issue; no health check."""
    events = sorted(arrived.events(), key=lambda event: (event["event"], event["timestamp"]))
    wanted = ("$pathname", "total", "sku", "http_status_code")

    assert [
        (
            event["event"],
            event["distinct_id"] if event["person_mode"] == "full" else "nobody",
            {name: event["properties"][name] for name in wanted if name in event["properties"]},
            event["groups"],
        )
        for event in events
    ] == snapshot(
        [
            ("$exception", "nobody", {"$pathname": "/broken", "http_status_code": 500}, {}),
            ("$pageview", "nobody", {"$pathname": "/", "http_status_code": 200}, {}),
            ("api_request", "nobody", {"$pathname": "/broken", "http_status_code": 500}, {}),
            ("api_request", "user-42", {"$pathname": "/checkout", "http_status_code": 200}, {}),
            ("order paid", "user-42", {"total": 29.0, "sku": "mug"}, {"company": "Alpine Ltd"}),
        ]
    )
    assert [(issue["type"], issue["value"], issue["count"]) for issue in arrived.issues()] == [("KeyError", "'key'", 1)]
    assert [person["distinct_ids"] for person in arrived.persons()] == [["user-42"]]
    assert arrived.refusals() == []


def test_what_is_installed_exists() -> None:
    """The extras that the README names are extras of this package."""
    named = {extra for extras in re.findall(r"otel-posthog\[([\w,]+)\]", README) for extra in extras.split(",")}
    provided = set(metadata("otel-posthog").get_all("Provides-Extra") or [])

    assert named
    assert named - provided == set()


def test_the_rules_are_whole() -> None:
    """The block is a rules file as it stands, and says in it what each rule is for."""
    from otel_posthog.rules.load import parse_text

    assert [rule.name for rule in parse_text(RULES).rules] == ["order paid"]
    assert yaml.safe_load(RULES)["default_rules"] is True
