"""The Kubernetes manifests build, are what the API takes, and fit together; no cluster is started here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_posthog.cli.main import main
from tests.fixtures.collector import CACHE, LARGE, ROOT, Collector, find_binary
from tests.fixtures.ports import free_ports

EXAMPLE = "examples/kubernetes"
Manifest = dict[str, Any]


def tool(name: str) -> Path:
    """A program of `make collector-kubernetes`; skips or fails as `find_binary` does."""
    path = CACHE / "kubernetes" / name
    if not os.access(path, os.X_OK):
        reason = f"there is no {path}: run `make collector-kubernetes` first (needs Go 1.25)"
        if os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `kubectl apply -k` would send for the example, made as its first lines say."""
    folder = tmp_path_factory.mktemp("kubernetes")
    shutil.copytree(ROOT / "collector", folder / "collector")
    shutil.copytree(ROOT / EXAMPLE, folder / EXAMPLE)
    shutil.copy(folder / EXAMPLE / "secrets.env.example", folder / EXAMPLE / "secrets.env")
    done = subprocess.run(
        [tool("kustomize"), "build", folder / EXAMPLE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def manifests(built: str) -> list[Manifest]:
    """The same, parsed."""
    return list(yaml.safe_load_all(built))


def test_each_manifest_is_what_the_api_takes(built: str) -> None:
    """Every document decodes strictly into the API's own Go types: no unknown field, no wrong type."""
    done = subprocess.run([tool("kubernetes-schema")], input=built, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 21
    broken = built.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")
    done = subprocess.run([tool("kubernetes-schema")], input=broken, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "unknown field" in done.stderr


def of_kind(manifests: list[Manifest], *kinds: str) -> Iterator[Manifest]:
    """The manifests of these kinds."""
    return (one for one in manifests if one["kind"] in kinds)


def workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Pod templates by name of their workload."""
    return {one["metadata"]["name"]: one["spec"]["template"] for one in of_kind(manifests, "StatefulSet", "DaemonSet")}


def test_selectors_meet_pods(manifests: list[Manifest]) -> None:
    """Services, budgets, policies and the autoscaler speak of pods and ports that are there."""
    pods = workloads(manifests)
    labels = [template["metadata"]["labels"] for template in pods.values()]

    def matches(selector: dict[str, str]) -> bool:
        return any(selector.items() <= one.items() for one in labels)

    for one in of_kind(manifests, "StatefulSet", "DaemonSet"):
        template = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"].items() <= template.items()
    for service in of_kind(manifests, "Service"):
        assert matches(service["spec"]["selector"])
        template = next(
            t for t in pods.values() if service["spec"]["selector"].items() <= t["metadata"]["labels"].items()
        )
        names = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for one in of_kind(manifests, "PodDisruptionBudget"):
        assert matches(one["spec"]["selector"]["matchLabels"])
    for one in of_kind(manifests, "NetworkPolicy"):
        assert matches(one["spec"]["podSelector"].get("matchLabels", {}))
    services = {one["metadata"]["name"] for one in of_kind(manifests, "Service")}
    for one in of_kind(manifests, "StatefulSet"):
        assert one["spec"]["serviceName"] in services
    for one in of_kind(manifests, "HorizontalPodAutoscaler"):
        assert one["spec"]["scaleTargetRef"]["name"] in pods
        target = next(s for s in of_kind(manifests, "StatefulSet") if s["metadata"]["name"] in str(one["spec"]))
        assert "replicas" not in target["spec"], "a replica count would undo the autoscaler's at every apply"


def test_containers_are_locked_down(manifests: list[Manifest]) -> None:
    """Non-root, read-only root, no capabilities, no service account token, a memory limit, probes by named port."""
    for name, template in workloads(manifests).items():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"]["drop"] == ["ALL"]
            assert "memory" in container["resources"]["limits"]
            if container["name"] != "queue-folder":
                assert "runAsUser" not in context
                assert "add" not in context["capabilities"]
        for container in spec["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports, (name, probe)
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            claims = {
                claim["metadata"]["name"]
                for one in of_kind(manifests, "StatefulSet")
                if one["metadata"]["name"] == name
                for claim in one["spec"]["volumeClaimTemplates"]
            }
            assert mounted == {volume["name"] for volume in spec["volumes"]} | claims


def settings_of(manifests: list[Manifest], name: str) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """Environment (secrets filled in), arguments and mounted files of a workload's container."""
    container = workloads(manifests)[name]["spec"]["containers"][0]
    secret = next(of_kind(manifests, "Secret"))
    env: dict[str, str] = {}
    for entry in container["env"]:
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if reference is None:
            env[entry["name"]] = entry["value"]
            continue
        assert reference["name"] == secret["metadata"]["name"]
        assert reference["key"] in secret["data"]
        env[entry["name"]] = f"of-{reference['key']}"
    volume = next(v for v in workloads(manifests)[name]["spec"]["volumes"] if v["name"] == "config")
    files = next(
        m["data"] for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"] == volume["configMap"]["name"]
    )
    return env, container["args"], files


@pytest.mark.parametrize("name", ["otel-agent", "otel-collector"])
def test_the_collector_takes_what_the_pod_gives(name: str, manifests: list[Manifest], tmp_path: Path) -> None:
    """With the pod's arguments, files and environment, a real Collector validates and starts."""
    env, args, files = settings_of(manifests, name)
    paths: list[Path] = []
    for argument in args:
        file = argument.removeprefix("--config=/etc/otelcol/")
        (tmp_path / file).write_text(files[file])
        paths.append(tmp_path / file)
    collector = Collector(paths, binary=find_binary(LARGE), log=tmp_path / "log")
    # On this machine's loopback, and in a folder of the test's; all else is the pod's.
    here = {
        "QUEUE_DIR": str(tmp_path / "queue"),
        "TIER_HOST": "localhost",
        "GATEWAY_HOST": "localhost",
        **collector.ports.env,
    }
    collector.env = {key: here.get(key, value) for key, value in env.items()} | {"METRICS_PORT": here["METRICS_PORT"]}
    assert {"0.0.0.0:4317", "0.0.0.0:4318", "0.0.0.0:13133"} <= set(env.values())
    checked = collector.validate()
    assert (checked.returncode, checked.stderr) == (0, "")
    with collector:
        assert collector.healthy()


def test_the_gateway_gets_its_configuration(manifests: list[Manifest], tmp_path: Path) -> None:
    """The gateway's files, port of the probes, spool and secrets fit its configuration, which `--check` takes."""
    env, args, files = settings_of(manifests, "otel-posthog-gateway")
    assert args[:3] == ["gateway", "--config", "/etc/otel-posthog/bridge.yaml"]
    bridge = yaml.safe_load(files["bridge.yaml"])
    container = workloads(manifests)["otel-posthog-gateway"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {name: int(address.rpartition(":")[2]) for name, address in bridge["listen"].items()}
    assert ports == {"otlp-grpc": listens["grpc"], "otlp-http": listens["http"], "admin": listens["admin"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert bridge["spool"]["dir"] in mounts
    # What the image declares a volume gets an empty one where none is mounted at that very place: a lost spool.
    dockerfile = (ROOT / "collector" / "Dockerfile").read_text()
    assert set(re.findall(r'^VOLUME \["(.+)"\]$', dockerfile, re.MULTILINE)) <= mounts
    uid = workloads(manifests)["otel-posthog-gateway"]["spec"]["securityContext"]["runAsUser"]
    assert re.search(rf"^USER {uid}:", dockerfile, re.MULTILINE)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    here = dict(zip(("http", "grpc", "admin"), free_ports(3), strict=True))
    checked = subprocess.run(
        # On free ports: others may run a gateway on this machine.
        [sys.executable, "-m", "otel_posthog.cli", "gateway", "--check", "--config", tmp_path / "bridge.yaml",
         *args[3:], "--spool", tmp_path / "spool", *(f"--{name}=127.0.0.1:{port}" for name, port in here.items())],
        env={"PATH": os.defpath, "HOME": str(tmp_path), **env, "POSTHOG_PROJECT_KEY": "phc_example"},
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_only_expected_ways_are_open(manifests: list[Manifest]) -> None:
    """The namespace denies by default; data flows in one direction, and gateways reach only the internet's https."""
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "NetworkPolicy")}
    assert policies["default-deny"]["podSelector"] == {}
    assert set(policies["default-deny"]["policyTypes"]) == {"Ingress", "Egress"}

    def sources(name: str) -> list[Any]:
        return [peer for rule in policies[name]["ingress"] for peer in rule["from"]]

    only = {"matchLabels": {"app.kubernetes.io/name": "otel-agent"}}
    assert sources("otel-collector") == [{"podSelector": only}]
    only = {"matchLabels": {"app.kubernetes.io/name": "otel-collector"}}
    assert sources("otel-posthog-gateway") == [{"podSelector": only}]
    (egress,) = policies["otel-posthog-gateway"]["egress"]
    assert egress["ports"] == [{"protocol": "TCP", "port": 443}]
    assert "169.254.0.0/16" in egress["to"][0]["ipBlock"]["except"]


def test_the_operator_recipe_fits(manifests: list[Manifest]) -> None:
    """The Instrumentation sends to the agents' Service, with a token that the agents take. (Not applied here.)"""
    recipe = yaml.safe_load((ROOT / "collector/kubernetes/operator/instrumentation.yaml").read_text())
    host, _, port = recipe["spec"]["exporter"]["endpoint"].removeprefix("http://").partition(":")
    service = next(one for one in of_kind(manifests, "Service") if one["metadata"]["name"] == "otel-agent")
    assert host == f"{service['metadata']['name']}.{service['metadata']['namespace']}"
    assert int(port) in {one["port"] for one in service["spec"]["ports"]}
    token = next(one for one in recipe["spec"]["python"]["env"] if one["name"] == "OTEL_EXPORTER_OTLP_TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["key"] == "COLLECTOR_TOKEN"


def test_the_filter_of_the_example_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    """The example's filter is what the command writes for the example's rules."""
    assert main(["rules", "collector-filter", "--gateway", str(ROOT / EXAMPLE / "bridge.yaml")]) == 0
    written = yaml.safe_load(capsys.readouterr().out)
    shipped = yaml.safe_load((ROOT / EXAMPLE / "product-filter.yaml").read_text())
    assert shipped == written, f"write {EXAMPLE}/product-filter.yaml anew: rules collector-filter --gateway …"
