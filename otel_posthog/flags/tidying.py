"""Which flags nobody reads any more, which are overdue, and which the code reads although nobody knows them.

A flag is read where its key stands in a text of Python, or in quotes in a template or script, or where the member of a
registry that holds it is named; the class of the registry itself does not count.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from otel_posthog.flags.registry import Flag, Registry, registries
from otel_posthog.model.frozen import frozen

TEMPLATES: Final = frozenset({".html", ".jinja", ".jinja2", ".j2", ".js", ".jsx", ".ts", ".tsx", ".vue", ".svelte"})
_LEFT_OUT: Final = frozenset({"node_modules", "__pycache__", "site-packages", "dist", "build"})
_MAX_BYTES: Final = 2_000_000
"""Larger files are made by programs."""

UNUSED: Final = "unused"
EXPIRED: Final = "expired"
REMOVE: Final = "remove"
UNREGISTERED: Final = "unregistered"


@frozen
class Finding:
    """Something to tidy up.

    Args:
        kind: `unused` (known, and nowhere read), `expired` (its last day is over), `remove` (to be taken out, and still
            read), or `unregistered` (PostHog has it and the code reads it, but no registry has it).
        key: The flag.
        owner: Whom to ask.
        detail: For people.
        places: Where it is read: `file:line`.
    """

    kind: str
    key: str
    owner: str = ""
    detail: str = ""
    places: tuple[str, ...] = ()


def unused(
    paths: Sequence[str | os.PathLike[str]] = (".",),
    *,
    known: Iterable[Flag] | None = None,
    remote: Iterable[str] = (),
    today: date | None = None,
) -> list[Finding]:
    """What is to be tidied up among the flags.

    Args:
        paths: Folders and files of the app.
        known: The flags; those of all registries that are loaded by default.
        remote: Keys that PostHog has.
        today: The day to ask for.

    Returns:
        Sorted by kind and key.
    """
    flags = {str(flag): flag for flag in known} if known is not None else _registered()
    elsewhere = set(remote)
    members = {flag.name: key for key, flag in flags.items() if flag.name}
    read = reads(paths, {*flags, *elsewhere}, members)
    findings: list[Finding] = []
    for key, flag in flags.items():
        places = read.get(key, ())
        if not places:
            findings.append(Finding(UNUSED, key, flag.owner, "nothing reads it: delete it here and in PostHog"))
        elif flag.state == "remove":
            findings.append(Finding(REMOVE, key, flag.owner, "it is to be taken out, and is still read", places))
        if flag.expired(today):
            findings.append(Finding(EXPIRED, key, flag.owner, f"its last day was {flag.expires}", places))
    for key in elsewhere - flags.keys():
        places = read.get(key, ())
        if places and flags:
            findings.append(Finding(UNREGISTERED, key, "", "PostHog has it, and no registry", places))
        elif not places:
            findings.append(Finding(UNUSED, key, "", "PostHog has it, and nothing reads it"))
    return sorted(findings, key=lambda finding: (finding.kind, finding.key))


def reads(
    paths: Sequence[str | os.PathLike[str]], keys: set[str], members: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Where flags are read.

    Args:
        paths: Folders and files.
        keys: The flags to look for.
        members: Name of a registry's member -> its flag.
    """
    found: dict[str, list[str]] = {}
    quoted = {key: re.compile(rf"""["'`]{re.escape(key)}["'`]""") for key in keys}
    for file in _files(paths):
        try:
            if file.stat().st_size > _MAX_BYTES:
                continue
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = _python(text, keys, members or {}) if file.suffix == ".py" else None
        if lines is None:
            lines = [
                (key, number)
                for number, line in enumerate(text.splitlines(), 1)
                for key, pattern in quoted.items()
                if pattern.search(line)
            ]
        for key, number in lines:
            found.setdefault(key, []).append(f"{file.as_posix()}:{number}")
    return {key: tuple(dict.fromkeys(places)) for key, places in found.items()}


def _registered() -> dict[str, Flag]:
    return {str(flag): flag for registry in registries() for flag in registry.flags()}


def _files(paths: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_file():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
            for name in sorted(names):
                if Path(name).suffix in TEMPLATES or name.endswith(".py"):
                    yield Path(folder, name)


def _python(text: str, keys: set[str], members: Mapping[str, str]) -> list[tuple[str, int]] | None:
    """(flag, line) of each reading; `None` where it is no Python that this interpreter reads."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    found: list[tuple[str, int]] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef) and any(_is_registry(base) for base in node.bases):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in keys:
            found.append((node.value, node.lineno))
        elif isinstance(node, ast.Attribute) and node.attr in members:
            found.append((members[node.attr], node.lineno))
        waiting.extend(ast.iter_child_nodes(node))
    return sorted(found, key=lambda each: each[1])


def _is_registry(base: ast.expr) -> bool:
    name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
    return name == Registry.__name__ or name in {registry.__name__ for registry in registries()}
