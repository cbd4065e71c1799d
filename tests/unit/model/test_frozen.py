"""`frozen` makes what `dataclass(frozen=True, slots=True)` makes, only quicker."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest

from otel_posthog.model import AcceptResult, CaptureEvent, Decision, LocalContext, Scope, Signal
from otel_posthog.model.frozen import frozen


@dataclass(frozen=True, slots=True)
class Plain:
    """As the standard library makes it."""

    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list[int])
    d: Any = None


@frozen
class Quick:
    """As we make it."""

    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list[int])
    d: Any = None


@pytest.mark.parametrize("make", [lambda cls: cls(1), lambda cls: cls(1, "x", [2], 3), lambda cls: cls(d=4, a=1, c=[])])
def test_it_is_the_dataclass_in_every_respect(make: Any) -> None:
    """Fields, defaults, repr, hash-less equality, signature, replace, copies."""
    plain, quick = make(Plain), make(Quick)

    assert repr(quick) == repr(plain).replace("Plain", "Quick")
    assert [getattr(quick, item.name) for item in fields(quick)] == [
        getattr(plain, item.name) for item in fields(plain)
    ]
    assert (
        [item.type for item in fields(quick)]
        == [item.type for item in fields(plain)]
        == ["int", "str", "list[int]", "Any"]
    )
    assert Quick.__annotations__ == Plain.__annotations__
    assert inspect.signature(Quick).parameters.keys() == inspect.signature(Plain).parameters.keys()
    assert quick == make(Quick)
    assert replace(quick, b="z") == Quick(quick.a, "z", quick.c, quick.d)
    assert copy.copy(quick) == copy.deepcopy(quick) == quick
    assert type(quick) is Quick
    assert isinstance(quick, Quick)


def test_default_factories_are_called_each_time() -> None:
    """Two instances share no list."""
    assert Quick(1).c is not Quick(1).c


def test_it_is_frozen_and_slotted() -> None:
    """Neither assignment, nor deletion, nor new names."""
    made = Quick(1)

    with pytest.raises(FrozenInstanceError):
        made.a = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del made.a
    with pytest.raises((FrozenInstanceError, TypeError)):
        made.new = 1  # type: ignore[attr-defined]
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize("arguments", [{}, {"a": 1, "x": 2}])
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    """As everywhere: a TypeError that names the class's `__init__`."""
    with pytest.raises(TypeError, match=r"Quick\.__init__"):
        Quick(**arguments)


def test_what_it_cannot_do_is_said() -> None:
    """Bases, `__post_init__` and what is no field need the ordinary dataclass."""

    class Based(Plain):
        pass

    class Afterwards:
        def __post_init__(self) -> None:
            pass

    class Shared:
        known: ClassVar[int] = 1

    for cls in (Based, Afterwards, Shared):
        with pytest.raises(TypeError, match="dataclass"):
            frozen(cls)


def test_hashing_follows_the_fields() -> None:
    """Hashable where all fields are; `links` of a Signal are compared, not shared."""
    event = CaptureEvent("e", "d", "u", 1, {})

    assert Decision(events=()) == Decision(events=())
    assert hash(Scope("a", "b", ())) == hash(Scope("a", "b", ()))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(event)) == event
    assert AcceptResult() == AcceptResult(0, 0, {}, 0)


def test_with_local_changes_nothing_else() -> None:
    """Spelled out field by field for speed: a field that is added to Signal must be added there."""
    names = [item.name for item in fields(Signal)]
    filled = Signal(**{name: f"<{name}>" for name in names})  # type: ignore[arg-type]

    moved = filled.with_local(LocalContext(distinct_id="ada"))

    assert moved == replace(filled, local=LocalContext(distinct_id="ada"))
    assert [getattr(moved, name) for name in names if name != "local"] == [f"<{name}>" for name in names[:-1]]
