"""Facts about this process, as resource defaults of its Signals: what the resource says itself always wins.

| Resource attribute | First that is there |
|---|---|
| `posthog.deployment_method` | `OTEL_POSTHOG_DEPLOYMENT_METHOD`; `kubernetes` (its service variables); `serverless` (Lambda, Cloud Run, Azure Functions); `docker` (`/.dockerenv`, `/run/.containerenv`, a container's cgroup); `native` |
| `posthog.timezone` | `TZ` where it is an IANA name; the target of `/etc/localtime`; `/etc/timezone`; `UTC` |
| `deployment.environment.name` | `ENVIRONMENT`, `APP_ENV`, `FLASK_ENV`, `DJANGO_ENV`, `SENTRY_ENVIRONMENT` |
| `os.type`, `host.arch` | the platform |
| `process.runtime.name`, `process.runtime.version` | this interpreter |

Read once, when processors are attached; never in a request.
"""  # noqa: E501 - a table

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from otel_posthog.model import AttributeValue
from otel_posthog.semconv import otel, posthog

METHOD_VARIABLE: Final = "OTEL_POSTHOG_DEPLOYMENT_METHOD"
_ENVIRONMENT_VARIABLES: Final = ("ENVIRONMENT", "APP_ENV", "FLASK_ENV", "DJANGO_ENV", "SENTRY_ENVIRONMENT")
_SERVERLESS_VARIABLES: Final = ("AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE", "FUNCTIONS_WORKER_RUNTIME", "FUNCTION_TARGET")
_CONTAINER_FILES: Final = (".dockerenv", "run/.containerenv")
_CONTAINER_GROUPS: Final = ("/docker/", "/docker-", "/libpod", "/containerd", "/kubepods", "/lxc/")
_MAX_FILE: Final = 16 * 1024


def process_facts(
    environ: Mapping[str, str] | None = None, *, root: str = "/", system: str = ""
) -> dict[str, AttributeValue]:
    """The facts of this process, by resource attribute.

    Args:
        environ: The environment; the process's own by default.
        root: Root of the file system, for tests.
        system: `platform.system()`, for tests.
    """
    environment = os.environ if environ is None else environ
    top = Path(root)
    facts: dict[str, AttributeValue] = {
        posthog.DEPLOYMENT_METHOD: _deployment_method(environment, top),
        posthog.TIMEZONE: _timezone(environment, top),
        otel.OS_TYPE: (system or platform.system()).lower() or "unknown",
        otel.HOST_ARCH: platform.machine().lower(),
        otel.RUNTIME_NAME: sys.implementation.name,
        otel.RUNTIME_VERSION: platform.python_version(),
    }
    for name in _ENVIRONMENT_VARIABLES:
        value = environment.get(name, "").strip()
        if value:
            facts[otel.ENVIRONMENT[0]] = value
            break
    return {key: value for key, value in facts.items() if value}


def _deployment_method(environ: Mapping[str, str], top: Path) -> str:
    said = environ.get(METHOD_VARIABLE, "").strip()
    if said:
        return said
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if any(environ.get(name) for name in _SERVERLESS_VARIABLES):
        return "serverless"
    if any((top / name).exists() for name in _CONTAINER_FILES):
        return "docker"
    groups = _read(top / "proc/self/cgroup")
    if "/kubepods" in groups:
        return "kubernetes"
    return "docker" if any(mark in groups for mark in _CONTAINER_GROUPS) else "native"


def _timezone(environ: Mapping[str, str], top: Path) -> str:
    said = environ.get("TZ", "").strip().lstrip(":")
    # `CET-1CEST` is a POSIX rule, not a name; a path names the zone at its end.
    if said:
        said = _zone_of_path(said) if said.startswith("/") else said
        if "/" in said or said.upper() in {"UTC", "GMT"}:
            return said
    try:
        target = str((top / "etc/localtime").readlink())
    except OSError:
        target = ""
    return _zone_of_path(target) or _read(top / "etc/timezone").strip() or "UTC"


def _zone_of_path(path: str) -> str:
    _, found, zone = path.rpartition("zoneinfo/")
    return zone.removeprefix("posix/").removeprefix("right/") if found else ""


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE)
    except OSError:
        return ""
