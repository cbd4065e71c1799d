"""Every public function of `otel_posthog.flags` and `otel_posthog.browser`: up to the wire, and off."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import otel_posthog
from otel_posthog import browser, flags
from otel_posthog.api.process import process
from otel_posthog.emulator import Emulator
from otel_posthog.errors import ConfigError

WHO = "ada"


def _required() -> Any:
    @flags.required("new-dashboard")
    def page() -> str:
        return "page"

    with otel_posthog.scope(distinct_id=WHO):
        try:
            return page()
        except Exception as error:
            return "403" in str(error)


def _openfeature() -> Any:
    pytest.importorskip("openfeature")
    from openfeature.evaluation_context import EvaluationContext

    provider = flags.openfeature_provider()
    return provider.resolve_boolean_details("new-dashboard", False, EvaluationContext(WHO)).value


def _script() -> Any:
    from jinja2 import Environment

    environment = Environment(autoescape=True)
    browser.install(environment)
    with otel_posthog.scope(distinct_id=WHO):
        return WHO in environment.from_string("{{ posthog_script(flags=['new-dashboard']) }}").render()


CALLED = ["$feature_flag_called"]
CALLS: dict[str, tuple[Callable[[], Any], Any, list[str], Any]] = {
    "all": (lambda: flags.all(WHO)["new-dashboard"], True, [], KeyError),
    "bootstrap": (
        lambda: flags.bootstrap(WHO, only=["new-dashboard"])["featureFlags"],
        {"new-dashboard": True},
        [],
        {},
    ),
    "config": (lambda: flags.config("dashboard-config", WHO)["theme"], "dark", [], KeyError),
    "details": (lambda: flags.details("new-dashboard", WHO).value, True, CALLED, None),
    "enabled": (lambda: flags.enabled("new-dashboard", WHO), True, CALLED, False),
    "experiments": (lambda: flags.experiments(WHO), {"timer-ui-experiment": "variant-b"}, [], {}),
    "interaction": (
        lambda: flags.interaction("new-dashboard", "clicked", distinct_id=WHO) is not None,
        True,
        ["feature_interaction"],
        False,
    ),
    "openfeature_provider": (_openfeature, True, CALLED, ConfigError),
    "payload": (lambda: flags.payload("a-list", WHO), [1, 2], [], None),
    "required": (_required, "page", CALLED, True),
    "variant": (lambda: flags.variant("timer-ui-experiment", WHO), "variant-b", CALLED, None),
    "install": (_script, True, [], False),
    "posthog_script": (_script, True, [], False),
}
"""Each function in use: the call, what it gives, what arrives at PostHog, and what it gives where it is off."""
ASIDE = {
    "override": "for tests: it sends nothing; `test_overriding.py`",
    "registered": "reads the app's own classes; `test_registry.py`",
    "stats": "counts; `test_outages.py`",
    "unused": "reads the app's source; `test_command.py`",
    "relay_blueprint": "its own wire, and off; `tests/unit/browser/test_relay.py`",
}


def test_none_is_left_out() -> None:
    """A public function without a line here fails."""
    functions = {
        name for module in (flags, browser) for name in module.__all__ if inspect.isfunction(getattr(module, name))
    }
    assert functions == set(CALLS) | set(ASIDE)


@pytest.mark.parametrize("name", CALLS)
def test_on_the_wire(name: str, running: None, emulator: Emulator) -> None:
    """PostHog answers, the caller gets the answer, and what it means arrives."""
    call, given, sent, _ = CALLS[name]

    assert call() == given
    assert otel_posthog.flush(60.0) is True
    assert [(event["event"], event["distinct_id"]) for event in emulator.events()] == [(event, WHO) for event in sent]


@pytest.mark.parametrize("name", CALLS)
def test_off(name: str) -> None:
    """Behind a shut gate each gives its default, nobody is asked, and nothing is started."""
    call, _, _, default = CALLS[name]

    if isinstance(default, type):
        with pytest.raises(default):
            call()
    else:
        assert call() == default
    assert process.get() is None
