"""The page about frameworks, run: its apps, its configuration and its line of plain code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.instrumentation.celery import HEADER, PostHogCeleryInstrumentor
from otel_posthog.instrumentation.fastapi import PostHogFastAPIInstrumentor
from otel_posthog.instrumentation.flask import PostHogFlaskInstrumentor
from otel_posthog.rules.load import load_file
from tests.unit.api.conftest import Calls, builder, default_calls, own_context, own_process
from tests.unit.instrumentation.conftest import ADA, on, people
from tests.unit.instrumentation.test_asgi import get

__all__ = ["builder", "default_calls", "on", "own_context", "own_process"]

PAGE = (Path(__file__).resolve().parents[2] / "docs/frameworks.md").read_text(encoding="utf-8")
FLASK, FASTAPI, CELERY, PLAIN = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
USERS, WRITTEN, SOURCES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(text: str) -> dict[str, Any]:
    """The names that a block leaves."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "frameworks.md", "exec"), names)
    return names


@pytest.fixture
def plain() -> Iterator[None]:
    """The page's line of plain code, and its way back."""
    yield
    if PostHogFlaskInstrumentor().is_instrumented_by_opentelemetry:
        PostHogFlaskInstrumentor().uninstrument()


def test_flask_and_the_line_of_plain_code(plain: None, build: Callable[..., Calls]) -> None:
    """The app as it stands, the mapping as it stands: a visitor logs in, and out."""
    calls = build(rules=USERS.replace("user.uuid", "user.id"))
    run(PLAIN)
    client = run(FLASK)["app"].test_client()
    client.post("/login", data={"number": "7"}, headers={"x-posthog-distinct-id": ADA})
    client.post("/logout")

    assert people(calls) == [("$identify", "7")]
    (own,) = [own for _, _, own in calls.said]
    assert own["$anon_distinct_id"] == ADA
    assert own["$set"]["role"] == "owner"
    assert re.match(r"20\d\d-\d\d-\d\dT", own["$set"]["last_login"])


def test_fastapi(on: Callable[..., Any], calls: Calls) -> None:
    """The dependency names the person."""
    on(PostHogFastAPIInstrumentor)
    app = run(FASTAPI)["api"]
    assert get(app, "/me", x_key="7", x_posthog_distinct_id=ADA).status == 200

    assert people(calls) == [("$identify", "7")]


def test_celery(on: Callable[..., Any], calls: Calls) -> None:
    """The message says who it is for."""
    from celery import signals

    from otel_posthog.context import Ambient, working

    on(PostHogCeleryInstrumentor)
    page = run(CELERY)
    sent: list[str] = []

    def look(headers: Any, **_: Any) -> None:
        sent.append(headers[HEADER])

    signals.before_task_publish.connect(look)
    try:
        with working(Ambient(distinct_id="7")):
            page["order"](12)
    finally:
        signals.before_task_publish.disconnect(look)
        page["queue"].close()

    assert sent == ['{"person":"7"}']


@pytest.mark.parametrize("text", [USERS, WRITTEN, SOURCES], ids=["users", "written", "sources"])
def test_the_configuration_is_good(text: str, tmp_path: Path) -> None:
    """All files load, and say something."""
    path = tmp_path / "bridge.yaml"
    path.write_text(text, encoding="utf-8")
    users = load_file(str(path)).users

    assert users is not None
    assert users.set or users.sources or users.distinct_id


def test_what_is_switched_off_has_these_names() -> None:
    """Every name that the page gives for the standard variable is an entry point, and the other way round."""
    from importlib.metadata import entry_points

    installed = {
        entry.name
        for entry in entry_points(group="opentelemetry_instrumentor")
        if entry.value.startswith("otel_posthog.instrumentation.frameworks:")
    }

    assert set(re.findall(r"\bposthog_[a-z]+", PAGE)) == installed
