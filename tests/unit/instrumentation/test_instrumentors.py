"""Every instrumentor that is installed with us: each can be left out, and leaves nothing behind."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.instrumentation.auto_instrumentation import _load

from otel_posthog.config.load import load_settings
from otel_posthog.instrumentation.frameworks import ALL
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.django_project import set_up

set_up()

OURS = {
    point.name: point
    for point in entry_points(group="opentelemetry_instrumentor")
    if point.value.startswith("otel_posthog.")
}
ELSEWHERE = ("django.db.models.signals", "flask_login.signals", "flask_security.signals")
"""Modules beside those that are watched, in which something is changed."""
RULES = "functions:\n  'tests.unit.instrumentation.test_instrumentors:charge': {event: charged}\n"


def charge() -> int:
    """A function of the app."""
    return 7


def parts_of(modules: list[ModuleType]) -> dict[str, Any]:
    """All that can be put in the place of something: by path, the objects themselves."""
    found: dict[str, Any] = {}
    for module in modules:
        for name, value in list(vars(module).items()):
            path = f"{module.__name__}.{name}"
            found[path] = value
            if isinstance(value, type):
                found.update({f"{path}.{inner}": one for inner, one in list(vars(value).items())})
            receivers = inspect.getattr_static(value, "receivers", None)
            if isinstance(receivers, (dict, list)):
                found[f"{path} receivers"] = repr(receivers)
    # What a class keeps about itself for the interpreter.
    return {path: part for path, part in found.items() if not path.endswith(("__weakref__", "_abc_impl"))}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Paths of what is not the same any more."""
    return {
        path
        for path in before.keys() | after.keys()
        if before.get(path) is not after.get(path)
        and not (isinstance(before.get(path), str) and before.get(path) == after.get(path))
    }


def test_the_tests_know_all_of_them() -> None:
    """As many as stand in the package's metadata, and every framework is one."""
    assert {f"posthog_{one.framework}" for one in ALL} < set(OURS)
    assert len(OURS) >= 7


@pytest.mark.parametrize("name", sorted(OURS))
def test_no_trace_is_left(name: str, build: Callable[..., Calls]) -> None:
    """Of whatever is watched: in its modules the same objects stand as before, and the same receivers listen."""
    build(rules=RULES)
    instrumentor = OURS[name].load()()
    instrumentor.instrument()
    try:
        watched = [*(instrumentor.hooks() if hasattr(instrumentor, "hooks") else instrumentor.modules())]
        assert watched
    finally:
        instrumentor.uninstrument()
    modules: list[ModuleType] = []
    for path in watched:
        if path == "starlette.middleware.wsgi" and path not in sys.modules:
            continue  # it warns that it will go
        modules.append(importlib.import_module(path))
    modules += [sys.modules[path] for path in ELSEWHERE if path in sys.modules]
    before = parts_of(modules)
    instrumentor.instrument()
    during = parts_of(modules)
    instrumentor.uninstrument()

    assert changed(before, during)
    assert changed(before, parts_of(modules)) == set()
    assert not instrumentor.is_instrumented_by_opentelemetry


class Recording:
    """A distro that notes what is to be loaded."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def load_instrumentor(self, entry_point: Any, **_: Any) -> None:
        """Loads nothing."""
        self.names.add(entry_point.name)


@pytest.mark.parametrize("name", [*sorted(OURS), "*"])
def test_left_out_by_the_standard_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own loader passes over the one that is named, and over nothing else of ours."""
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", f" {name} ,redis")
    monkeypatch.setattr(_load, "entry_points", lambda group: [one for one in OURS.values() if one.group == group])
    distro = Recording()
    _load._load_instrumentors(distro)

    assert distro.names == (set() if name == "*" else set(OURS) - {name})


@pytest.mark.parametrize("word", ["posthog", "*"])
@pytest.mark.parametrize("name", sorted(OURS))
def test_all_of_us_by_one_word(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`posthog` shuts the gate: an instrumentor that is called all the same changes nothing."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://eu.i.posthog.com")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
    monkeypatch.delenv("OTEL_POSTHOG_ENABLED", raising=False)
    assert load_settings().enabled
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", word)
    instrumentor = OURS[name].load()()
    instrumentor.instrument()

    assert not instrumentor.is_instrumented_by_opentelemetry
    assert instrumentor.patches is None if name in ("posthog_functions", "posthog_sdk") else not instrumentor.on
