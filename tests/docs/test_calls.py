"""The pages about calls, run: their Python blocks one after the other in a process, against a local PostHog."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsFloat

from otel_posthog.emulator import Emulator
from tests.unit.api.conftest import COMMON

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

BEFORE = """
import logging
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry._logs import set_logger_provider
from otel_posthog import auto
trace.set_tracer_provider(TracerProvider())
set_logger_provider(LoggerProvider())
logging.getLogger("shop").addHandler(LoggingHandler())
auto.install()
"""
REQUEST = """
with trace.get_tracer("shop").start_as_current_span("request"):
    for text in {texts!r}:
        exec(compile(text, "{page}", "exec"), globals())
"""
AFTER = """
import asyncio
if "search" in globals():
    asyncio.run(search("green mug"))
"""

Said = tuple[str, str, dict[str, Any]]


def run(page: str, tmp_path: Path, *, apart: bool = False) -> list[Said]:
    """What arrives of the blocks of a page, in one request or each in its own."""
    texts = BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert texts
    blocks = [REQUEST.format(texts=group, page=page) for group in ([[text] for text in texts] if apart else [texts])]
    script = tmp_path / "page.py"
    script.write_text(BEFORE + "".join(blocks) + AFTER)
    with Emulator() as posthog:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script)],
            env={
                "PATH": os.environ["PATH"],
                "OTEL_EXPORTER_OTLP_ENDPOINT": posthog.endpoint,
                "OTEL_EXPORTER_OTLP_TOKEN": "phc_pages",
                "OTEL_POSTHOG_MODE": "direct",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "Traceback" not in done.stderr
        assert posthog.refusals() == []
        return sorted(map(_said, posthog.events()), key=_name_and_person)


def _name_and_person(said: Said) -> tuple[str, str]:
    return said[0], said[1]


def _said(event: dict[str, Any]) -> Said:
    own = {name: value for name, value in event["properties"].items() if name not in COMMON}
    person = event["distinct_id"] if event["person_mode"] == "full" else ""
    for name in ("$process_person_profile", "$ignore_sent_at"):
        own.pop(name, None)
    if "$exception_list" in own:
        own = {"type": own["$exception_list"][0]["type"], "step": own.get("step")}
    return event["event"], person, own


MS = IsFloat(ge=0)


@pytest.mark.timeout(180)
def test_annotate(tmp_path: Path) -> None:
    """docs/annotate.md makes what it says."""
    assert run("annotate.md", tmp_path, apart=True) == sorted(
        [
            ("report exported", "ada", {"format": "pdf", "duration_ms": MS}),
            ("stock ran out", "ada", {"sku": "mug"}),
            ("order paid", "ada", {"total": 29.0, "sku": "mug"}),
            (
                "order paid",
                "ada",
                {
                    "total": 29.0,
                    "$groups": {"company": "acme"},
                    "$set": {"plan": "pro"},
                    "$set_once": {"first order": "mug"},
                },
            ),
            ("charge completed", "ada", {"amount": 15, "success": True, "duration_ms": MS}),
            ("report built", "ada", {"format": "pdf", "rows": 3, "success": True, "duration_ms": MS}),
            ("invoice sent", "ada", {"area": "billing"}),
            ("searched", "ada", {"area": "search", "$feature area": "search", "words": 2}),
            ("$exception", "", {"type": "KeyError", "step": "checkout"}),
            ("mail sent", "ada", {}),
            ("mail sent", "bob", {}),
        ],
        key=_name_and_person,
    )


@pytest.mark.timeout(180)
def test_identify(tmp_path: Path) -> None:
    """docs/identify.md makes what it says."""
    assert run("identify.md", tmp_path) == [
        ("$create_alias", "user-42", {"alias": "device-7f3a", "distinct_id": "user-42"}),
        ("$set", "user-42", {"$set": {"plan": "pro"}, "$set_once": {"first seen": "2026-11-20"}}),
        ("$set", "user-42", {"$set": {"plan": "team", "seats": 5}}),
        ("$set", "user-42", {"$set_once": {"first import": "csv"}}),
        ("$set", "user-42", {"$unset": ["trial ends"]}),
        ("$set", "user-7", {"$set": {"plan": "free"}}),
        ("logged out", "user-42", {}),
        ("login page shown", "", {}),
    ]


@pytest.mark.timeout(180)
def test_groups(tmp_path: Path) -> None:
    """docs/groups.md makes what it says."""
    acme = {"company": "acme"}
    assert run("groups.md", tmp_path) == [
        (
            "$groupidentify",
            "$company_acme",
            {"$group_type": "company", "$group_key": "acme", "$group_set": {"seats": 14}, "$groups": acme},
        ),
        (
            "$groupidentify",
            "user-42",
            {
                "$group_type": "company",
                "$group_key": "acme",
                "$group_set": {"name": "Acme Ltd", "seats": 12},
                "$groups": acme,
            },
        ),
        ("invited", "user-42", {"$groups": {"company": "apex", "project": "7"}}),
        ("report exported", "user-42", {"$groups": acme}),
        ("task done", "user-42", {"$groups": {"company": "acme", "project": "7"}}),
    ]
