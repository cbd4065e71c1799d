"""Facts about the process, from its environment and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_posthog.lane.deployment import process_facts


def facts(tmp_path: Path, environ: dict[str, str] | None = None, **files: str) -> dict[str, object]:
    """The facts of a made-up machine."""
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return process_facts(environ or {}, root=str(tmp_path), system="Linux")


def test_docker_is_known_by_its_file(tmp_path: Path) -> None:
    """`/.dockerenv` says docker, its absence native."""
    assert facts(tmp_path)["posthog.deployment_method"] == "native"
    (tmp_path / ".dockerenv").touch()
    assert facts(tmp_path)["posthog.deployment_method"] == "docker"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OTEL_POSTHOG_DEPLOYMENT_METHOD": "nomad", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "nomad"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "serverless"),
    ],
)
def test_the_environment_says_how_it_runs(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    """The override first, then what the platform sets."""
    assert facts(tmp_path, environ)["posthog.deployment_method"] == expected


@pytest.mark.parametrize(
    ("groups", "expected"),
    [("0::/docker/12ab", "docker"), ("0::/kubepods/pod1", "kubernetes"), ("0::/user.slice", "native")],
)
def test_control_groups_tell_other_containers(tmp_path: Path, groups: str, expected: str) -> None:
    """Containers without the docker file are known by their cgroup."""
    assert facts(tmp_path, proc__self__cgroup=groups)["posthog.deployment_method"] == expected


@pytest.mark.parametrize(
    ("tz", "expected"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":Europe/Berlin", "Europe/Berlin"),
        ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ("UTC", "UTC"),
        ("CET-1CEST", "UTC"),
        ("", "UTC"),
    ],
)
def test_the_zone_of_tz(tmp_path: Path, tz: str, expected: str) -> None:
    """IANA names only; one default."""
    assert facts(tmp_path, {"TZ": tz})["posthog.timezone"] == expected


def test_the_zone_of_the_machine(tmp_path: Path) -> None:
    """The link of `/etc/localtime`, then `/etc/timezone`."""
    assert facts(tmp_path, etc__timezone="Europe/Paris\n")["posthog.timezone"] == "Europe/Paris"
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/posix/America/New_York")
    assert facts(tmp_path)["posthog.timezone"] == "America/New_York"


def test_the_environment_s_name(tmp_path: Path) -> None:
    """`FLASK_ENV` and friends where the resource says nothing; nothing is made up here."""
    assert facts(tmp_path, {"FLASK_ENV": "staging"})["deployment.environment.name"] == "staging"
    assert facts(tmp_path, {"ENVIRONMENT": "qa", "FLASK_ENV": "x"})["deployment.environment.name"] == "qa"
    assert "deployment.environment.name" not in facts(tmp_path)


def test_this_interpreter(tmp_path: Path) -> None:
    """OS in semconv's spelling, runtime name and version."""
    found = facts(tmp_path)
    assert found["os.type"] == "linux"
    assert found["process.runtime.name"]
    assert str(found["process.runtime.version"]).startswith("3.")
