"""`otel-posthog emulator`: a local PostHog with a page."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from otel_posthog.errors import ConfigError

if TYPE_CHECKING:
    from otel_posthog.emulator import Fault

HELP = "run a local PostHog with a page: events, persons, groups, errors, feature flags"

DEFAULT_PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command to `parser`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--db", default=":memory:", metavar="PATH", help="SQLite file that survives a restart (default: %(default)s)"
    )
    parser.add_argument("--flags", metavar="FILE", help="YAML file of feature flags, see docs/emulator.md")
    parser.add_argument(
        "--posthog-js", metavar="DIR", help="folder dist of the npm package posthog-js, served as PostHog does"
    )
    parser.add_argument("--faults", metavar="FILE", help="JSON script of faults, see docs/emulator.md")
    parser.add_argument(
        "--allow-remote", action="store_true", help="listen on an address that other machines reach; there is no log-in"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(args: argparse.Namespace) -> int:
    """Serves until interrupted.

    Args:
        args: Parsed options.

    Returns:
        0 after a stop by signal, 1 when it could not start.
    """
    from otel_posthog.emulator import Emulator

    try:
        faults, seed = _script(args.faults)
        emulator = Emulator(
            host=args.host,
            port=args.port,
            db=args.db,
            allow_remote=args.allow_remote,
            flags=args.flags,
            posthog_js=args.posthog_js,
        )
    except ConfigError as error:
        print(f"otel-posthog emulator: {error}", file=sys.stderr)
        return 1
    emulator.script(*faults, seed=seed)
    if not args.quiet:
        print(_banner(emulator.url, emulator.endpoint, args.db, args.flags), flush=True)
    # uvicorn raises the signal again after a clean stop
    with contextlib.suppress(KeyboardInterrupt):
        emulator.serve()
    return 0


def _script(path: str | None) -> tuple[list[Fault], int]:
    from otel_posthog.emulator import parse_script

    if path is None:
        return parse_script([])
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(error.strerror), key="--faults", source=path) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is not JSON: {error}", key="--faults", source=path) from None
    return parse_script(document, source=path)


def _banner(url: str, endpoint: str, db: str, flags: str | None) -> str:
    kept = "in memory, gone when this stops" if db == ":memory:" else f"kept in {db}"
    served = f"\n  Feature flags     {flags}, read again when it changes" if flags else ""
    return f"""\
A local PostHog listens at {url} ({kept}).

  The page          {url}/
  The bridge        OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}
                    OTEL_EXPORTER_OTLP_TOKEN=phc_local
  The PostHog SDK   Posthog("phc_local", host="{url}"){served}

Stop with Ctrl-C."""
