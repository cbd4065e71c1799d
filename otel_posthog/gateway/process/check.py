"""`otel-posthog gateway --check`: whether a gateway would start here, as a table; opens nothing that stays open."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_posthog.gateway.configuration.settings import GatewaySettings, ProjectSettings
from otel_posthog.gateway.process.cores import usable_cores
from otel_posthog.gateway.receivers.settings import Listen
from otel_posthog.model.frozen import frozen

_PACKAGES: Final = {
    "grpc": "OTLP over gRPC",
    "httptools": "OTLP over HTTP",
    "uvicorn": "the admin listener",
    "prometheus_client": "the admin listener",
    "google.protobuf": "OTLP",
}

_LEAST_FREE: Final = 1024 * 1024
"""Bytes. Below it nothing is acknowledged for long; file systems that hold no files, such as /proc, have none."""
_BESIDE: Final = {
    4317: "a Collector takes this one by default; beside one --grpc off",
    4318: "a Collector takes this one by default; beside one --http 127.0.0.1:14318",
}
"""What to do about the ports that OTLP has everywhere."""


@frozen
class CheckRow:
    """One thing that was looked at.

    Args:
        level: `ok`, `warn`, `problem` or `note`.
        name: What.
        text: What was found; never a secret.
    """

    level: str
    name: str
    text: str


def check_gateway(settings: GatewaySettings) -> Iterator[CheckRow]:
    """Looks at everything that a start needs.

    Args:
        settings: Checked settings: what is in the file is well.
    """
    yield CheckRow("ok", "configuration", settings.source)
    for project in settings.projects:
        yield CheckRow("ok", f"project {project.name}", _project(project, default=settings.default_project))
    if not settings.default_project:
        yield CheckRow("note", "default project", "none: what matches no project is put aside as a dead letter")
    yield _callers(settings)
    tls = settings.receivers.http_tls
    if tls is not None:
        clients = "; only clients with a certificate are let in" if tls.client_ca_file else ""
        yield CheckRow("ok", "tls", f"{tls.cert_file}{clients}")
    yield from _packages()
    for name, listen in (
        ("http", settings.receivers.http),
        ("grpc", settings.receivers.grpc),
        ("admin", settings.admin),
    ):
        yield _listener(name, listen)
    if settings.acknowledge == "spool":
        yield _spool(settings.spool.folder)
    else:
        found = Path(settings.spool.folder).is_dir()
        why = f"{settings.spool.folder}, for dead letters and what was spooled before" if found else "none"
        yield CheckRow("note", "spool", f"{why}; an answer follows PostHog's (acknowledge: forward)")
    workers = str(settings.workers or f"{usable_cores()}, one per core")
    yield CheckRow("ok", "workers", workers)
    for warning in settings.warnings:
        yield CheckRow("warn", "note", warning)


def _project(project: ProjectSettings, *, default: str) -> str:
    count = len(project.rules)
    rules = f"{count} rule{'s' * (count != 1)} ({project.rules.digest[:12]})" if count else "no rules"
    match = project.match
    parts: list[str] = []
    if match.tokens:
        parts.append(f"callers {', '.join(match.tokens)}")
    parts.extend(f"{key}={'|'.join(values)}" for key, values in match.resource)
    if project.name == default:
        parts.append("the rest")
    return f"{project.lane.url}, key {project.lane.token.masked()}, {rules}; gets {' and '.join(parts)}"


def _callers(settings: GatewaySettings) -> CheckRow:
    callers = list(dict.fromkeys(token.caller for token in settings.tokens))
    if callers:
        return CheckRow("ok", "callers", f"show a token: {', '.join(callers)}")
    tls = settings.receivers.http_tls
    if tls is not None and tls.client_ca_file:
        return CheckRow("ok", "callers", "show a certificate")
    return CheckRow("note", "callers", "show nothing: anybody who reaches the listeners may send")


def _packages() -> Iterator[CheckRow]:
    missing = [name for name in _PACKAGES if not _installed(name)]
    if missing:
        lacking = ", ".join(f"{name} ({_PACKAGES[name]})" for name in missing)
        yield CheckRow("problem", "packages", f"missing: {lacking}; pip install 'otel-posthog[gateway]'")
    else:
        yield CheckRow("ok", "packages", "all there")


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _listener(name: str, listen: Listen | None) -> CheckRow:
    if listen is None:
        return CheckRow("note", f"listen {name}", "off")
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        try:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((listen.host, listen.port))
            trial.listen(1)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            other = f"choose another ({_BESIDE[listen.port]})" if listen.port in _BESIDE else "choose another"
            return CheckRow("problem", f"listen {name}", f"{listen}: {why}; stop what listens there, or {other}")
    return CheckRow("ok", f"listen {name}", f"{listen} is free")


def _spool(folder: str) -> CheckRow:
    path = Path(folder)
    nearest = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    if not nearest.is_dir():
        return CheckRow("problem", "spool", f"{folder}: {nearest} is no folder")
    # Asked, not tried: a check makes nothing. Root passes also where the file system is mounted read-only.
    if not os.access(nearest, os.W_OK | os.X_OK):
        return CheckRow("problem", "spool", f"{folder}: this user cannot write in {nearest}; set `spool.dir`")
    space = os.statvfs(nearest)
    if space.f_flag & os.ST_RDONLY:
        return CheckRow("problem", "spool", f"{folder}: {nearest} is mounted read-only; set `spool.dir`")
    free = space.f_bavail * space.f_frsize
    if free < _LEAST_FREE:
        return CheckRow("problem", "spool", f"{folder}: no room there; set `spool.dir`, or make room")
    # Shown whole: a relative folder is another one where the gateway is started elsewhere.
    return CheckRow("ok", "spool", f"{path.absolute()}, {free // (1024 * 1024):,} MiB free")
