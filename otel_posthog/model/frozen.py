"""`frozen`: frozen, slotted dataclasses that are cheap to define and cheap to make.

`dataclass(frozen=True, slots=True)` compiles eight functions for each class, twice the time of this at every start of
a process, and its instances assign every field by `object.__setattr__`: 2 µs for the 21 fields of a `Signal`, more than
all that a quiet span costs us. Here

- the functions that depend on the fields are compiled at once, and those that do not are shared by all classes;
- an instance belongs to an unfrozen twin class with the same slots while its fields are assigned, and becomes one of
  its own class by the last statement.

Everything else is a dataclass: `fields`, `replace`, `asdict`, equality, hash, repr, matching, copies and pickles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import field

    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """For type checkers alone: `typing` has it from Python 3.11 on."""
        return lambda function: function

    field = None

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Makes a frozen, slotted dataclass of `cls`, which has no bases and no `__post_init__`.

    Raises:
        TypeError: `cls` has a base or a `__post_init__`.
    """
    if cls.__bases__ != (object,) or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} needs more than `frozen` can do: use dataclass(frozen=True, slots=True)")
    own = vars(cls)
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    for name, function in {**_SHARED, **_compiled(made)}.items():
        if name not in own:
            setattr(made, name, function)
    return made


def _compiled(cls: type[Any]) -> Mapping[str, Any]:
    """`__init__`, `__eq__` and `__hash__` for the fields of `cls`."""
    known = fields(cls)
    names = [item.name for item in known]
    # The same slots in the same order on the same base: what Python asks for before `__class__` may be assigned.
    draft = type(f"_{cls.__name__}Draft", (), {"__slots__": tuple(names), "__module__": cls.__module__})
    scope: dict[str, Any] = {"_become": object.__setattr__, "_Draft": draft, "_Final": cls, "_MISSING": MISSING}
    parameters: list[str] = []
    assignments: list[str] = []
    for item in known:
        if not item.init:
            raise TypeError(f"{cls.__name__}.{item.name}: every field of a frozen class is an argument")
        parameter, value = item.name, item.name
        if item.default is not MISSING:
            scope[f"_default_{item.name}"] = item.default
            parameter += f"=_default_{item.name}"
        elif item.default_factory is not MISSING:
            scope[f"_make_{item.name}"] = item.default_factory
            parameter += "=_MISSING"
            value = f"_make_{item.name}() if {item.name} is _MISSING else {item.name}"
        parameters.append(parameter)
        assignments.append(f"    self.{item.name} = {value}")
    compared = [name for name, item in zip(names, known, strict=True) if item.compare]
    mine, others = (f"({''.join(f'{who}.{name},' for name in compared)})" for who in ("self", "other"))
    source = f"""
def __init__(self{"".join(f", {parameter}" for parameter in parameters)}):
    _become(self, '__class__', _Draft)
{chr(10).join(assignments)}
    self.__class__ = _Final

def __eq__(self, other):
    return {mine} == {others} if other.__class__ is _Final else NotImplemented

def __hash__(self):
    return hash({mine})
"""
    exec(source, scope)  # noqa: S102 - as dataclasses does it: the names are those of the class's own fields
    made = {name: scope[name] for name in ("__init__", "__eq__", "__hash__")}
    for name, function in made.items():
        function.__qualname__ = f"{cls.__qualname__}.{name}"
        function.__module__ = cls.__module__
    made["__init__"].__annotations__ = {**{item.name: item.type for item in known}, "return": None}
    return made


# --- shared by all classes ----------------------------------------------------------------------------------------


def _repr(self: Any) -> str:
    shown = ", ".join(f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{type(self).__qualname__}({shown})"


def _setattr(_self: Any, name: str, _value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(_self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, item.name) for item in fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for item, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, item.name, value)


_SHARED = {
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
