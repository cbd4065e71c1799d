"""The frame of the command line: finds the command, parses, runs, and turns every end into an exit code.

A command is a module `otel_posthog.cli.<name>` with `HELP` (one line), `add_arguments(parser)` and `run(args) -> int`;
`DESCRIPTION` may say more. Only the chosen one is imported.

Exit codes: 0 well, 1 a problem was found, 2 wrong usage, 130 interrupted, 141 the reader of our output went away.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from otel_posthog.errors import OtelPosthogError
from otel_posthog.version import __version__

PROGRAM = "otel-posthog"
COMMANDS = ("status", "doctor", "run", "explain", "rules", "flags", "emulator", "gateway", "tail", "spool")

OK, PROBLEM, USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141

EPILOG = "`otel-posthog COMMAND --help` tells more about one command."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments without the program; the process's own by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has no ✓, and a lone surrogate in a recording, are shown as `?`: no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Somebody read enough (`| head`); the interpreter must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _descriptor())
        return BROKEN_PIPE
    except OtelPosthogError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return PROBLEM
    return code


def _descriptor() -> int:
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):
        return os.open(os.devnull, os.O_WRONLY)


def _run(words: list[str]) -> int:
    try:
        if words and words[0] in COMMANDS:
            module = _module(words[0])
            return int(module.run(build_parser(words[0]).parse_args(words[1:])))
        parser = build_parser("")
        parser.parse_args(words)
        parser.print_help(sys.stderr)
        return USAGE
    except SystemExit as end:
        # argparse ends so for --help, --version and wrong usage.
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else OK if end.code is None else _complain(end.code)


def _complain(text: object) -> int:
    print(text, file=sys.stderr)
    return PROBLEM


def _module(command: str) -> Any:
    return importlib.import_module(f"otel_posthog.cli.{command}")


def build_parser(command: str, width: int | None = None) -> argparse.ArgumentParser:
    """The parser of one command, or of the program itself.

    Args:
        command: One of `COMMANDS`, or "" for the program.
        width: Columns of the help text; the terminal's by default.
    """

    def formatter(prog: str) -> argparse.HelpFormatter:
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=width)

    if command:
        module = _module(command)
        description = getattr(module, "DESCRIPTION", "").strip() or f"{module.HELP[0].upper()}{module.HELP[1:]}."
        parser = argparse.ArgumentParser(
            prog=f"{PROGRAM} {command}", description=description, formatter_class=formatter, allow_abbrev=False
        )
        module.add_arguments(parser)
        return parser
    listed = "\n".join(f"  {name:<10}{_summary(name)}" for name in COMMANDS)
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] COMMAND …",
        description=f"OpenTelemetry data becomes PostHog events, people, groups and errors.\n\ncommands:\n{listed}",
        epilog=EPILOG,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", type=_unknown, help=argparse.SUPPRESS)
    return parser


def _summary(command: str) -> str:
    try:
        return str(_module(command).HELP)
    except ImportError as error:
        return f"(not available here: {error})"


def _unknown(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
    raise argparse.ArgumentTypeError(f"no command {word!r}; {hint}")


if __name__ == "__main__":
    sys.exit(main())
