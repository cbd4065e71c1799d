"""Whether a function that the rules file names is there, without importing anything of the app.

Finders and source files are asked, and nothing is run; so it can be said before the app has been imported, and by
commands. What only running could tell (a module that puts names into itself, a package that changes its `__path__`)
counts as there.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

from otel_posthog.model.frozen import frozen

_MAKES_MODULES: Final = ("__path__", "sys.modules")
_MAKES_NAMES: Final = ("__getattr__", "globals()", "sys.modules", "vars()", "setattr(", "exec(")
_BLOCKS: Final = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements hold statements (`if`, `try`, `with`, `match` …)."""


@frozen
class Missing:
    """What is not there.

    Args:
        what: In half a sentence, with the nearest name.
        package: The whole package is missing: it may be elsewhere, where the app runs.
    """

    what: str
    package: bool = False


def missing_module(module: str, more: Sequence[str] = ()) -> Missing | None:
    """What is missing of a module; `None` where it is there, or where nobody can know.

    Args:
        module: Its dotted name.
        more: Folders to look into before those of `sys.path`.
    """
    found = _seek(module, more)
    return found if isinstance(found, Missing) else None


def missing_function(module: str, qualname: str, more: Sequence[str] = ()) -> Missing | None:
    """As `missing_module`, and what is missing in its source file.

    Args:
        module: Its dotted name.
        qualname: `function` or `Class.method`.
        more: As above.
    """
    found = _seek(module, more)
    if found is None or isinstance(found, Missing):
        return found
    source = _source(found)
    if source is None or any(word in source for word in _MAKES_NAMES):
        return None
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    return _missing_in(body, qualname)


def _seek(module: str, more: Sequence[str]) -> ModuleSpec | Missing | None:
    """Where it is, or what is missing; `None` where nobody can know."""
    if module in sys.modules:
        return None
    names = module.split(".")
    spec: ModuleSpec | None = None
    folders: list[str] = []
    for depth, name in enumerate(names):
        full = ".".join(names[: depth + 1])
        before = spec
        try:
            spec = PathFinder.find_spec(full, folders) if depth else _top(name, more)
            if spec is None:
                return _missing(full, name, before, folders or [*more, *sys.path])
            folders = [*(spec.submodule_search_locations or ())]
        except Exception:  # noqa: BLE001 - finders of others; a namespace within a package asks for that, imported
            return None
        if not folders and full != module:
            return None if _makes_modules(spec) else Missing(f"{full} is a module, and no package")
    return spec


def _top(name: str, more: Sequence[str]) -> ModuleSpec | None:
    return (PathFinder.find_spec(name, [*more]) if more else None) or importlib.util.find_spec(name)


def _missing(full: str, name: str, parent: ModuleSpec | None, folders: Sequence[str]) -> Missing | None:
    if parent is not None and _makes_modules(parent):
        return None
    near = _nearest(name, (found.name for found in iter_modules(folders)))
    where = " in sys.path" if parent is None else ""
    return Missing(f"there is no module {full}{where}{near}", package=parent is None)


def _makes_modules(spec: ModuleSpec) -> bool:
    source = _source(spec) or ""
    return any(word in source for word in _MAKES_MODULES)


def _source(spec: ModuleSpec) -> str | None:
    if not spec.origin or not spec.origin.endswith(".py"):
        return None
    try:
        return Path(spec.origin).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _missing_in(body: Sequence[ast.stmt], qualname: str) -> Missing | None:
    name, _, rest = qualname.partition(".")
    named = dict(reversed([*_names(body)]))  # a definition before its uses
    if "*" in named:
        return None
    if name not in named:
        return Missing(f"there is no {name}{_nearest(name, named)}")
    found = named[name]
    # What is inherited, or made by a decorator, is not written there.
    if not rest or not isinstance(found, ast.ClassDef) or found.bases or found.keywords or found.decorator_list:
        return None
    return None if rest.startswith("__") else _missing_in(found.body, rest)


def _names(body: Iterable[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """What statements give a name to, functions not entered; and what they name besides, which does no harm."""
    for each in body:
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield each.name, each
        elif isinstance(each, (ast.Import, ast.ImportFrom)):
            yield from (((alias.asname or alias.name).partition(".")[0], each) for alias in each.names)
        else:
            for block in _BLOCKS:
                yield from _names(getattr(each, block, ()))
            yield from ((one.id, each) for one in ast.walk(each) if isinstance(one, ast.Name))


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [*known], n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


__all__ = ["Missing", "missing_function", "missing_module"]
