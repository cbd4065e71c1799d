"""Late binding: wrapped until bound, restored after that, harmless in between."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from otel_posthog.auto.late import LOGS, TRACES, LateBinding


@pytest.fixture
def setter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with a setter as the API has it."""
    module: Any = ModuleType("fake_api")
    module.provider = None

    def _set(provider: object, log: bool = True) -> None:
        module.provider = provider

    module._set = _set
    module.set = lambda provider: module._set(provider, log=True)
    monkeypatch.setitem(sys.modules, "fake_api", module)
    return module


def test_it_binds_when_a_provider_is_set_and_puts_the_original_back(setter: Any) -> None:
    """The first provider that takes us ends the waiting; the API is as it was."""
    original = setter._set
    seen: list[object] = []
    binding = LateBinding(("fake_api", "_set", "set"), lambda: seen.append(setter.provider) or setter.provider == "sdk")
    binding.wait()
    binding.wait()
    setter.set("another proxy")
    assert binding.waiting
    setter.set("sdk")
    assert (seen, binding.waiting, setter._set) == (["another proxy", "sdk"], False, original)


def test_somebody_elses_wrapper_stays(setter: Any) -> None:
    """Whoever wrapped the setter after us keeps their wrapper; ours passes everything through."""
    binding = LateBinding(("fake_api", "_set", "set"), lambda: True)
    binding.wait()
    ours = setter._set
    calls: list[object] = []

    def theirs(provider: object, log: bool = True) -> None:
        calls.append(provider)
        ours(provider, log)

    setter._set = theirs
    setter.set("sdk")
    setter.set("again")
    assert (setter._set, calls, setter.provider) == (theirs, ["sdk", "again"], "again")


def test_without_the_private_setter_the_public_one_is_wrapped(setter: Any) -> None:
    """Should the private name go, an app that sets its provider by the module still gets us."""
    del setter._set
    setter.set = lambda provider: setattr(setter, "provider", provider)
    bound: list[bool] = []
    LateBinding(("fake_api", "_set", "set"), lambda: bound.append(True) or True).wait()
    setter.set("sdk")
    assert bound == [True]


@pytest.mark.parametrize("setter_of", [TRACES, LOGS])
def test_the_api_still_has_the_setters(setter_of: tuple[str, str, str]) -> None:
    """The private names that see every way of setting a provider are there in this version."""
    module = __import__(setter_of[0], fromlist=["_"])
    assert callable(getattr(module, setter_of[1])) and callable(getattr(module, setter_of[2]))
