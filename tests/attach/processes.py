"""Programs of the attach tests: which environments there are, what a process needs, how it is asked and ended."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.attach.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).resolve().parent / "apps"
TOKEN = "phc_attachTestToken"

DISTROS: dict[str, dict[str, str]] = {
    "stock": {},
    "floor": {"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"},
    # Their cloud detectors ask hosts that are not there; OpAMP stays off without an endpoint.
    "edot": {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel"},
    # What AWS's own manual demands.
    "adot": {
        "OTEL_PYTHON_DISTRO": "aws_distro",
        "OTEL_PYTHON_CONFIGURATOR": "aws_configurator",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel",
        "OTEL_AWS_APPLICATION_SIGNALS_ENABLED": "false",
        "AWS_EC2_METADATA_DISABLED": "true",
    },
    "plain": {},
    "logfire": {},
    "declarative": {},
    "clients": {},
}

_FRAMEWORKS = (
    *("aiohttp-client", "boto3", "botocore", "celery", "django", "fastapi", "flask", "grpc_aio_client"),
    *("grpc_aio_server", "grpc_client", "grpc_server", "httpx", "httpx2", "requests", "sqlalchemy", "starlette"),
    *("tornado", "urllib3"),
)


def only(*frameworks: str) -> dict[str, str]:
    """Instruments no others of the frameworks and clients that are installed: importing those is most of a start.

    Our own instrumentations stay. Where it may matter what is loaded, as in the matrix, everything is.
    """
    unused = [name for name in _FRAMEWORKS if name not in frameworks]
    return {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(unused)}


NO_FRAMEWORKS = only()


@dataclass(frozen=True)
class Environment:
    """One virtual environment of the matrix.

    Args:
        name: `stock` (the development environment) or a folder of `.envs/`.
        bin: Where its programs are.
        variables: What its distribution demands.
    """

    name: str
    bin: Path
    variables: dict[str, str]

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.bin / "python")

    def instrumented(self, *command: str) -> list[str]:
        """`command` under `opentelemetry-instrument`; its first word is a program of this environment."""
        return [str(self.bin / "opentelemetry-instrument"), str(self.bin / command[0]), *command[1:]]

    def run(self, *command: str) -> list[str]:
        """`command` under `otel-posthog run`."""
        return [str(self.bin / "otel-posthog"), "run", str(self.bin / command[0]), *command[1:]]


@dataclass
class Process:
    """One started program and what it printed.

    Args:
        popen: The process, leader of its own group.
        socket: Its listening socket, already bound, `None` where it serves nothing.
    """

    popen: subprocess.Popen[str]
    socket: socket.socket | None = None
    output: str = field(default="")

    def end(self, timeout: float = 90.0) -> int:
        """Waits for its end, keeps its output, gives its exit code."""
        self.output += self.popen.communicate(timeout=timeout)[0]
        return self.popen.returncode

    def get(self, path: str, headers: dict[str, str] | None = None) -> int:
        """Asks its server for `path`, gives the status. The socket listens from the start: no waiting for a port."""
        assert self.socket is not None
        connection = http.client.HTTPConnection("127.0.0.1", self.socket.getsockname()[1], timeout=60)
        try:
            connection.request("GET", path, headers={"Connection": "close", **(headers or {})})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


Launch = Callable[..., Process]


def variables(receiver: Receiver, mode: str, where: Environment | None = None, **more: str) -> dict[str, str]:
    """A whole process environment: what the system needs, the two variables, what the distribution demands."""
    env: dict[str, str] = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    env["PYTHONUNBUFFERED"] = "1"
    env["OTEL_SERVICE_NAME"] = "shop"
    env["OTEL_EXPORTER_OTLP_TOKEN"] = TOKEN
    # On a busy machine an end in order takes longer than the usual five seconds.
    env["OTEL_POSTHOG_EXIT_TIMEOUT"] = "60"
    if mode == "direct":
        # A loopback host is no PostHog host by its name.
        env["OTEL_POSTHOG_MODE"] = "direct"
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{receiver.url}/i"
    else:
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
    env.update(where.variables if where is not None else {})
    env.update(more)
    return env
