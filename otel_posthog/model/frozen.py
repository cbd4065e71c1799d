"""`frozen`: frozen, slotted dataclasses that are cheap to define and cheap to make.

`dataclass(frozen=True, slots=True)` compiles eight functions for each class, four times the time of this at every
start of a process, and its instances assign every field by `object.__setattr__`: 2 µs for the 21 fields of a `Signal`,
more than all that a quiet span costs us. Here

- `__init__` alone is compiled: what compares and hashes is half of the source, and no event waits for it;
- an instance belongs to an unfrozen twin class with the same slots while its fields are assigned, and becomes one of
  its own class by the last statement.

Everything else is a dataclass: `fields`, `replace`, `asdict`, equality, hash, repr, matching, copies and pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from operator import attrgetter
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
    """Makes a frozen, slotted dataclass of `cls`, which has fields, no bases and no `__post_init__`.

    Raises:
        TypeError: `cls` has a base, a `__post_init__`, or a `ClassVar` or `InitVar`.
    """
    more = any("ClassVar" in text or "InitVar" in text for text in map(str, cls.__annotations__.values()))
    if more or cls.__bases__ != (object,) or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} needs more than `frozen` can do: use dataclass(frozen=True, slots=True)")
    own = vars(cls)
    made = _fields_alone(cls)
    functions = {**_SHARED, **_comparing(made), "__init__": _init(made)}
    for name, function in functions.items():
        if name not in own:
            setattr(made, name, function)
    return made


def _fields_alone(cls: type[Any]) -> Any:
    """A dataclass with fields, slots and nothing else."""
    # Annotations are text here, and dataclasses look three times into each for a `ClassVar` or the like, which took a
    # twentieth of our start.
    types = cls.__annotations__
    cls.__annotations__ = dict.fromkeys(types, object)
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    made.__annotations__ = types
    for item in fields(made):
        item.type = types[item.name]
    return made


def _init(cls: type[Any]) -> Callable[..., None]:
    """`__init__` for the fields of `cls`."""
    known = fields(cls)
    names = tuple(item.name for item in known)
    # The same slots in the same order on the same base: what Python asks for before `__class__` may be assigned.
    draft = type(f"_{cls.__name__}Draft", (), {"__slots__": names, "__module__": cls.__module__})
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
    source = f"""
def __init__(self{"".join(f", {parameter}" for parameter in parameters)}):
    _become(self, '__class__', _Draft)
{chr(10).join(assignments)}
    self.__class__ = _Final
"""
    exec(source, scope)  # noqa: S102 - as dataclasses does it: the names are those of the class's own fields
    made: Callable[..., None] = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__module__ = cls.__module__
    made.__annotations__ = {**{item.name: item.type for item in known}, "return": None}
    return made


def _comparing(cls: type[Any]) -> Mapping[str, Any]:
    """`__eq__` and `__hash__` for the fields of `cls`."""
    compared = [item.name for item in fields(cls) if item.compare]
    read: Callable[[Any], Any] = attrgetter(*compared) if compared else lambda _: ()

    def equal(self: Any, other: Any) -> bool:
        return read(self) == read(other) if other.__class__ is cls else NotImplemented

    def hashed(self: Any) -> int:
        return hash(read(self))

    return {"__eq__": equal, "__hash__": hashed}


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
