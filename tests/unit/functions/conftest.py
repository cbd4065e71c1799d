"""An app with functions, and a rules file that names them."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context

from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.instrumentation.functions import PostHogFunctionsInstrumentor
from tests.unit.sdk.conftest import App, make_app

BILLING = '''
"""The app's own module."""

import contextlib
import dataclasses
import functools


@dataclasses.dataclass
class Order:
    id: str
    total: float
    email: str = "ada@example.com"

    def pay(self, by: str) -> str:
        """Pays."""
        return f"{self.id} by {by}"

    @classmethod
    def make(cls, id: str) -> "Order":
        return cls(id, 1.0)

    @staticmethod
    def vat(total: float) -> float:
        return total / 5

    @property
    def shown(self) -> str:
        return self.id


class Rush(Order):
    pass


def charge(amount, currency="EUR", *lines, order=None, **options):
    """Charges."""
    if amount < 0:
        raise ValueError("no such amount")
    return {"id": "ch_1", "fee": {"cents": 7}, "tags": ["a", "b"]}


async def charge_later(amount):
    return amount * 2


def lines(count):
    for index in range(count):
        yield index
    return "all"


async def lines_later(count):
    for index in range(count):
        yield index


@functools.lru_cache
def rate(country):
    return len(country)


NUMBER = 5
'''


class Shop:
    """One app: its module, our runtime and the instrumentor."""

    def __init__(self, app: App, path: Path, package: str) -> None:
        self.app = app
        self.package = package
        self.rules = path
        self.instrumentor = PostHogFunctionsInstrumentor()

    @property
    def billing(self) -> Any:
        """The module, imported now at the latest."""
        return importlib.import_module(f"{self.package}.billing")

    @property
    def said(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and own properties of the events; a duration is only there."""
        found = []
        for event in self.app.settle():
            own = {name: event.properties[name] for name in event.properties if name not in COMMON}
            if "duration_ms" in own:
                assert own.pop("duration_ms") >= 0
            found.append((event.event, own))
        return found


NUMBERS = itertools.count()
COMMON = {
    "$geoip_disable", "$is_server", "$lib", "$lib_version", "$process_person_profile", "deployment_method",
    "environment", "machine", "platform", "python_version", "service_name", "timezone",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """What a test leaves in its context ends with it."""
    token = context.attach(context.Context())
    yield
    context.detach(token)


@pytest.fixture(name="shop")
def shop_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shop]]:
    """Makes the app with this text below `functions:`; nothing of it has been imported."""
    # A name of its own: hooks on imports are used up by the first import of a name.
    name = f"shop_{next(NUMBERS)}"
    package = tmp_path / "app" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "billing.py").write_text(BILLING)
    (package / "views.py").write_text(f"from {name}.billing import charge\n")
    monkeypatch.syspath_prepend(str(tmp_path / "app"))
    made: list[Shop] = []

    def make(functions: str) -> Shop:
        text = functions.replace("billing:", f"{name}.billing:")
        rules = tmp_path / "posthog.yaml"
        rules.write_text(text)
        app = make_app(rules=text, tmp_path=tmp_path)
        monkeypatch.setattr(assembly._process, "_runtime", app.runtime)
        process.forget()
        process.complaints.after_fork()
        made.append(Shop(app, rules, name))
        made[-1].instrumentor.instrument()
        return made[-1]

    yield make
    for shop in made:
        shop.instrumentor.uninstrument()
        shop.app.tracer_provider.shutdown()
        shop.app.logger_provider.shutdown()
        assert list(shop.app.edge.worker.failures) == []
        assert shop.app.runtime.guard.counts() == {}
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]
    process.forget()
