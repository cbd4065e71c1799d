"""Packages that load a module of theirs when one of its names is first asked for (PEP 562).

`from otel_posthog.model import Signal` reads well and loads one module; without this it would load them all, in every
process that has this package attached, also where no event ever happens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a package.

    Args:
        package: Its `__name__`.
        homes: Exported name -> the module of the package that has it.
    """

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home}"), name)
        setattr(sys.modules[package], name, value)  # the next one does not come here
        return value

    return get
