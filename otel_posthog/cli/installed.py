"""What is installed beside us: packages, entry points, OpenTelemetry distributions. Looked up once, nothing loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_posthog.config import environment as names
from otel_posthog.config.values import text_of

GROUPS = (
    "opentelemetry_distro",
    "opentelemetry_configurator",
    "opentelemetry_pre_instrument",
    "opentelemetry_instrumentor",
    "opentelemetry_traces_exporter",
    "opentelemetry_logs_exporter",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry point.

    Args:
        name: Its name.
        package: The package that brings it.
    """

    name: str
    package: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What `importlib.metadata` knows.

    Args:
        packages: Normalised package name -> version.
        entries: Entry point group -> its entries, in the order in which OpenTelemetry meets them.
    """

    packages: Mapping[str, str] = field(default_factory=dict[str, str])
    entries: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict[str, tuple[Entry, ...]])

    def version(self, package: str) -> str:
        """Version of a package, "" where it is not installed."""
        return self.packages.get(package, "")

    def names(self, group: str) -> tuple[str, ...]:
        """Names of a group's entries."""
        return tuple(entry.name for entry in self.entries.get(group, ()))

    def chosen(self, group: str, environ: Mapping[str, str]) -> str:
        """Which distro or configurator wins: the one that its variable names, else the first; "" for none."""
        variable = names.DISTRO if group == "opentelemetry_distro" else names.CONFIGURATOR
        wanted = text_of(environ, variable)
        found = [entry for entry in self.entries.get(group, ()) if not wanted or entry.name == wanted]
        return found[0].name if found else ""


def normalised(package: str) -> str:
    """A package's name as everybody compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def look_around() -> Installed:
    """Reads the metadata of every installed package."""
    from importlib.metadata import distributions

    packages: dict[str, str] = {}
    entries: dict[str, list[Entry]] = {group: [] for group in GROUPS}
    for found in distributions():
        name = normalised(str(found.metadata["Name"] or ""))
        if not name or name in packages:
            continue  # the first on the path is the one that is imported
        packages[name] = found.version
        for entry in found.entry_points:
            if entry.group in entries:
                entries[entry.group].append(Entry(entry.name, name))
    return Installed(packages, {group: tuple(found) for group, found in entries.items()})
