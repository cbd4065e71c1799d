"""`frozen`: a frozen, slotted dataclass whose instances are made four times as fast.

`dataclass(frozen=True)` assigns every field by `object.__setattr__`: 2 µs for the 21 fields of a `Signal`, more than
all that a quiet span costs us. Here an instance belongs to an unfrozen twin class with the same slots while its
fields are assigned, and becomes one of its own class by the last statement. All else is what `dataclass` makes:
`replace`, `fields`, equality, hash, repr, pickling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """For type checkers alone: `typing` has it from Python 3.11 on."""
        return lambda function: function


T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Makes a frozen, slotted dataclass of `cls`, which has no bases and no `__post_init__`.

    Raises:
        TypeError: `cls` has a base or a `__post_init__`.
    """
    if cls.__bases__ != (object,) or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} needs more than `frozen` can do: use dataclass(frozen=True, slots=True)")
    made = dataclass(frozen=True, slots=True)(cls)
    made.__init__ = _quick_init(made)
    return made


def _quick_init(cls: type[Any]) -> Callable[..., None]:
    names = [item.name for item in fields(cls)]
    # The same slots in the same order on the same base: what Python asks for before `__class__` may be assigned.
    draft = type(f"_{cls.__name__}Draft", (), {"__slots__": tuple(names), "__module__": cls.__module__})
    scope: dict[str, Any] = {"_become": object.__setattr__, "_Draft": draft, "_Final": cls}
    parameters: list[str] = []
    body: list[str] = []
    for item in fields(cls):
        default = ""
        value = item.name
        if item.default is not MISSING:
            scope[f"_default_{item.name}"] = item.default
            default = f"=_default_{item.name}"
        elif item.default_factory is not MISSING:
            scope[f"_make_{item.name}"] = item.default_factory
            scope["_MISSING"] = MISSING
            default = "=_MISSING"
            value = f"_make_{item.name}() if {item.name} is _MISSING else {item.name}"
        parameters.append(item.name + default)
        body.append(f"    self.{item.name} = {value}")
    source = "\n".join(
        [
            f"def __init__(self, {', '.join(parameters)}):",
            "    _become(self, '__class__', _Draft)",
            *body,
            "    self.__class__ = _Final",
        ]
    )
    exec(source, scope)  # noqa: S102 - as dataclasses does it: the names are those of the class's own fields
    made: Callable[..., None] = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {**cls.__init__.__annotations__}
    return made
