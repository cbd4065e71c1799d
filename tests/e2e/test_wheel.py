"""The wheel that users install holds everything that the checkout has, and says what it needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = out.glob("*.whl")
    return wheel


def test_holds_every_file_of_the_package(wheel: Path) -> None:
    """Code, rules, schemas, pages and the typing marker are all in it, and nothing else is."""
    listed = subprocess.run(["git", "ls-files", "otel_posthog"], cwd=ROOT, check=True, capture_output=True, text=True)
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert set(listed.stdout.split()) - in_wheel == set()
    assert [name for name in in_wheel if not name.startswith("otel_posthog/")] == []


def test_base_install_is_light(wheel: Path) -> None:
    """What installing the package alone brings: nothing heavy, no distro, no web server."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    required = sorted(
        line.split(">=")[0].split("<")[0].split(";")[0].strip()
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    )

    assert required == [
        "opentelemetry-api",
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-instrumentation",
        "opentelemetry-sdk",
        "pyyaml",
        "tomli",
        "ua-parser",
        "ua-parser-builtins",
        "urllib3",
        "wrapt",
    ]


def test_entry_points_can_all_be_loaded(wheel: Path) -> None:
    """Every entry point of the wheel names something that exists; no distro or configurator is among them."""
    from importlib.metadata import distribution

    points = distribution("otel-posthog").entry_points

    assert sorted({point.group for point in points}) == [
        "console_scripts",
        "opentelemetry_environment_variables",
        "opentelemetry_instrumentor",
        "opentelemetry_logs_exporter",
        "opentelemetry_pre_instrument",
        "opentelemetry_sampler",
        "opentelemetry_traces_exporter",
        "opentelemetry_traces_sampler",
        "pytest11",
    ]
    assert all(point.load() is not None for point in points)


def test_the_extras_set_no_floor_of_their_own_for_packages_in_lock_step(wheel: Path) -> None:
    """Contrib packages are pinned to one opentelemetry-instrumentation: a second floor makes older pips give up."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    extras = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" in line]
    in_lock_step = ("opentelemetry-distro", "opentelemetry-instrumentation-")

    assert sorted({line.split(";")[0].strip() for line in extras if line.startswith(in_lock_step)}) == [
        "opentelemetry-distro",
        "opentelemetry-instrumentation-django",
        "opentelemetry-instrumentation-fastapi",
        "opentelemetry-instrumentation-flask",
        "opentelemetry-instrumentation-logging",
        "opentelemetry-instrumentation-threading",
    ]
