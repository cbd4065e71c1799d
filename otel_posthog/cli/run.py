"""`otel-posthog run CMD …`: start a program instrumented, with nothing set but the endpoint and the token."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

HELP = "start a program with OpenTelemetry and this bridge attached"

COMMAND_NOT_FOUND = 127
COMMAND_NOT_RUNNABLE = 126

DESCRIPTION = """
Starts CMD in place of this process: same process id, same signals, its own exit code. It needs two variables,
OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TOKEN (or the flags), and no OpenTelemetry distribution: where one is
installed it is used, where none is the SDK is set up with its defaults.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `run` to `parser`."""
    parser.description = DESCRIPTION
    parser.usage = "otel-posthog run [flags] [--] CMD [ARGS …]"
    parser.add_argument("--endpoint", metavar="URL", help="OTEL_EXPORTER_OTLP_ENDPOINT for CMD")
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="OTEL_EXPORTER_OTLP_TOKEN for CMD; better set the variable: a flag shows in the list of processes",
    )
    parser.add_argument("--mode", choices=("direct", "collector"), help="OTEL_POSTHOG_MODE for CMD")
    parser.add_argument("--rules", metavar="FILE", help="OTEL_POSTHOG_CONFIG for CMD")
    parser.add_argument("--service-name", metavar="NAME", help="OTEL_SERVICE_NAME for CMD")
    parser.add_argument(
        "--no-sdk", action="store_true", help="never set up the SDK: CMD does it itself, and this bridge joins then"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD", help="the program and its arguments")


def run(args: argparse.Namespace) -> int:
    """Replaces this process by CMD.

    Args:
        args: What `add_arguments` parsed.

    Returns:
        An exit code, only where CMD could not be started: 2 for a wrong call or setting, 126 or 127 as a shell would.
    """
    command: list[str] = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        return _fail("which program? For example: otel-posthog run flask --app shop run", 2)
    found = resolve(command)
    if isinstance(found, int):
        return _fail(_why_not(command[0], found), found)
    environ = dict(os.environ)
    try:
        prepare(environ, args)
    except Exception as error:  # noqa: BLE001 - the edge: a wrong setting must not keep the service down
        print(f"otel-posthog run: {error}\n{command[0]} runs without the bridge.", file=sys.stderr)
    return _replace(found, environ)


def resolve(command: Sequence[str]) -> list[str] | int:
    """The words to execute, program first with its full path; or the exit code that a shell would give.

    A Python file that is not executable is given to this interpreter.
    """
    program = command[0]
    path = shutil.which(program)
    if path is not None:
        return [path, *command[1:]]
    file = Path(program)
    if file.is_file():
        if file.suffix == ".py":
            return [sys.executable, *command]
        return COMMAND_NOT_RUNNABLE
    return COMMAND_NOT_FOUND


def prepare(environ: MutableMapping[str, str], args: argparse.Namespace) -> None:
    """Turns `environ` into the environment of CMD.

    Args:
        environ: A copy of this process's environment, changed in place.
        args: The flags.

    Raises:
        ConfigError: A setting is wrong; `environ` has the flags, and no instrumentation.
    """
    from otel_posthog.auto.own_sdk import RUN_VARIABLE
    from otel_posthog.auto_environment import apply
    from otel_posthog.config.load import load_settings

    for name, value in (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", args.endpoint),
        ("OTEL_EXPORTER_OTLP_TOKEN", args.token),
        ("OTEL_POSTHOG_MODE", args.mode),
        ("OTEL_POSTHOG_CONFIG", args.rules),
        ("OTEL_SERVICE_NAME", args.service_name),
    ):
        if value is not None:
            environ[name] = value
    settings = load_settings(environ)
    if not settings.enabled:
        print(f"otel-posthog run: off, because {settings.reason}", file=sys.stderr)
        if not wants_telemetry(environ):
            return
    apply(environ)
    if not args.no_sdk and settings.enabled:
        environ[RUN_VARIABLE] = "true"
    environ["PYTHONPATH"] = instrumented_path(environ.get("PYTHONPATH", ""))


def wants_telemetry(environ: Mapping[str, str]) -> bool:
    """Whether somebody set OpenTelemetry up, whatever becomes of this bridge: then CMD is instrumented all the same.

    `run` stands in for `opentelemetry-instrument` in a start command; switching the bridge off must not take the
    user's own telemetry with it. With nothing set (a developer's machine) CMD runs bare and quiet.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    names = ("OTEL_CONFIG_FILE", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER")
    return any(environ.get(name, "").strip() for name in names)


def instrumented_path(python_path: str) -> str:
    """`python_path` as `opentelemetry-instrument` sets it: its `sitecustomize` first, then the working directory."""
    from importlib.util import find_spec

    # Found, not imported: it would bring half of OpenTelemetry into a process that is about to be replaced.
    found = find_spec("opentelemetry.instrumentation.auto_instrumentation")
    assert found is not None and found.origin is not None, "opentelemetry-instrumentation is a dependency of ours"
    own = str(Path(found.origin).parent)
    parts = [part for part in python_path.split(os.pathsep) if part and part != own]
    here = str(Path.cwd())
    if here not in parts:
        parts.insert(0, here)
    return os.pathsep.join([own, *parts])


def _replace(command: list[str], environ: Mapping[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(command[0], command, environ)  # noqa: S606 - running the user's program is what `run` is for
    except OSError as error:
        return _fail(f"cannot start {command[0]}: {error.strerror}", COMMAND_NOT_RUNNABLE)


def _why_not(program: str, code: int) -> str:
    if code == COMMAND_NOT_RUNNABLE:
        return f"{program} is a file, but not executable; chmod +x it, or name the interpreter first"
    return f"{program}: no such program on the PATH; is its environment active, is it spelled right?"


def _fail(message: str, code: int) -> int:
    print(f"otel-posthog run: {message}", file=sys.stderr)
    return code
