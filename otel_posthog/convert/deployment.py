"""Where the telemetry comes from: one documented precedence for each deployment property, from the resource alone.

| Property | First that is there |
| --- | --- |
| `service_name` | `service.name` |
| `app_version` | `service.version` |
| `environment` | `deployment.environment.name`, `deployment.environment`, a static property, `production` |
| `deployment_method` | `posthog.deployment_method`, else by what is there: `k8s.*`, `faas.name`, `container.id` |
| `platform` | `os.type` as `Linux`, `Windows`, `macOS` … |
| `machine` | `host.arch` |
| `python_version` | `process.runtime.version` of a Python process |
| `timezone` | `posthog.timezone` |

`$os` is the person's system, `platform` the server's; they are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_posthog.convert.tags import joined_keys
from otel_posthog.convert.text import clean_text, cut_bytes
from otel_posthog.convert.values import Cleaner
from otel_posthog.model import Attributes, JsonValue
from otel_posthog.semconv import otel, posthog
from otel_posthog.version import __version__

DEFAULT_ENVIRONMENT: Final = "production"

_PLATFORMS: Final = {
    "aix": "AIX",
    "darwin": "macOS",
    "dragonflybsd": "DragonFly BSD",
    "freebsd": "FreeBSD",
    "hpux": "HP-UX",
    "linux": "Linux",
    "macos": "macOS",
    "netbsd": "NetBSD",
    "openbsd": "OpenBSD",
    "solaris": "Solaris",
    "windows": "Windows",
    "z_os": "z/OS",
    "zos": "z/OS",
}
_PYTHONS: Final = frozenset({"cpython", "pypy", "graalpy", "jython", "ironpython", "python"})
_MAX_BYTES: Final = 400


def library_properties() -> dict[str, JsonValue]:
    """What every event says about its sender."""
    return {"$lib": posthog.LIB_NAME, "$lib_version": __version__, "$is_server": True}


def deployment_properties(
    attributes: Attributes, static: Mapping[str, object], cleaner: Cleaner
) -> dict[str, JsonValue]:
    """The deployment properties of one resource, below them the configured static ones, below those the defaults."""
    properties: dict[str, JsonValue] = {"environment": DEFAULT_ENVIRONMENT}
    cleaner.properties(static, properties)
    said = {
        "service_name": _text(attributes, otel.SERVICE_NAME),
        "app_version": _text(attributes, otel.SERVICE_VERSION),
        "environment": _text(attributes, *otel.ENVIRONMENT),
        "deployment_method": _deployment_method(attributes),
        "platform": _platform(attributes),
        "machine": _text(attributes, otel.HOST_ARCH),
        "python_version": _python_version(attributes),
        "timezone": _text(attributes, posthog.TIMEZONE),
    }
    properties.update({name: value for name, value in said.items() if value})
    return properties


def _text(attributes: Attributes, *keys: str) -> str:
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, str):
            text = cut_bytes(clean_text(str.__str__(value)).strip(), _MAX_BYTES)
            if text:
                return text
        elif isinstance(value, float) or type(value) is int:
            # YAML and Collectors turn a version such as 3.1 into a number.
            return f"{float(value):.15g}" if abs(value) < 1e15 else ""
    return ""


def _deployment_method(attributes: Attributes) -> str:
    said = _text(attributes, posthog.DEPLOYMENT_METHOD)
    if said:
        return said
    if any(key.startswith(otel.KUBERNETES_PREFIX) for key in joined_keys(attributes).split("\n")):
        return "kubernetes"
    if _text(attributes, otel.FAAS_NAME):
        return "serverless"
    return "docker" if _text(attributes, otel.CONTAINER_ID) else ""


def _platform(attributes: Attributes) -> str:
    said = _text(attributes, otel.OS_TYPE)
    return _PLATFORMS.get(said.lower(), said)


def _python_version(attributes: Attributes) -> str:
    runtime = _text(attributes, otel.RUNTIME_NAME).lower()
    language = _text(attributes, otel.SDK_LANGUAGE).lower()
    if runtime in _PYTHONS or (not runtime and language == "python"):
        return _text(attributes, otel.RUNTIME_VERSION)
    return ""
