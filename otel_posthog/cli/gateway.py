"""`otel-posthog gateway`: OTLP in, PostHog events out."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_posthog.errors import ConfigError
    from otel_posthog.gateway.configuration.bridge_file import Overrides
    from otel_posthog.gateway.configuration.settings import GatewaySettings
    from otel_posthog.gateway.process.service import GatewayService
    from otel_posthog.gateway.process.supervisor import Place

HELP = "take OTLP from services and Collectors, and deliver PostHog events"
DESCRIPTION = """
Takes OTLP over HTTP and gRPC from any service or Collector, converts it by the same rules as in a process, and delivers
to PostHog. What it has acknowledged is on disk (or, with --acknowledge forward, delivered).

Without --config it serves the project of OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TOKEN.
SIGTERM stops it in order, SIGHUP has it read its configuration again. See docs/gateway.md.
"""

HEALTH_URL = "http://127.0.0.1:8887/livez"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command to `parser`."""
    parser.add_argument("--config", metavar="FILE", default="", help="bridge.yaml; see docs/gateway.md")
    parser.add_argument("--check", action="store_true", help="say whether it would start, and leave")
    parser.add_argument(
        "--healthcheck",
        metavar="URL",
        nargs="?",
        const=HEALTH_URL,
        help="ask a running one whether it is alive, and leave; for containers (default: %(const)s)",
    )
    parser.add_argument("--http", metavar="ADDRESS", help="listen for OTLP over HTTP: host:port, or off")
    parser.add_argument("--grpc", metavar="ADDRESS", help="listen for OTLP over gRPC: host:port, or off")
    parser.add_argument("--admin", metavar="ADDRESS", help="serve health and metrics: host:port, or off")
    parser.add_argument("--spool", metavar="DIR", help="folder of the spool")
    parser.add_argument(
        "--acknowledge", choices=("spool", "forward"), help="what an answer promises: on disk, or delivered"
    )
    parser.add_argument("--workers", metavar="N", type=_workers, help="processes; auto for one per core")
    parser.add_argument("--log-format", choices=("text", "json"), help="log lines for people or for machines")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="the least that is said")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of bridge.yaml, and leave")


def _workers(text: str) -> int:
    if text == "auto":
        return 0
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 256:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of workers; use 1 to 256, or auto")


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to stop.

    Args:
        args: Parsed options.

    Returns:
        0 after a stop in order, 1 where it cannot start.
    """
    from otel_posthog.errors import ConfigError

    if args.schema:
        return _schema()
    if args.healthcheck:
        return _healthcheck(args.healthcheck)
    # Before anything that starts a thread: the allocator's settings hold for what comes after them.
    from otel_posthog.gateway.process.allocator import tune_allocator

    try:
        if args.check:
            return _check(_load(args))
        with _hang_up_ignored():
            settings = _load(args)
            tune_allocator()
            return _serve(args, settings)
    except ConfigError as error:
        return _complain(error)


@contextlib.contextmanager
def _hang_up_ignored() -> Generator[None, None, None]:
    """Until the handlers are there: a hang-up must not end what has hardly begun, and is about to read its files."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def _load(args: argparse.Namespace) -> GatewaySettings:
    from otel_posthog.gateway.configuration.bridge_file import load_gateway_settings

    return load_gateway_settings(args.config, os.environ, _overrides(args))


def _overrides(args: argparse.Namespace) -> Overrides:
    from otel_posthog.gateway.configuration.bridge_file import Overrides

    return Overrides(
        http=args.http,
        grpc=args.grpc,
        admin=args.admin,
        workers=args.workers,
        acknowledge=args.acknowledge,
        spool_dir=args.spool,
        log_format=args.log_format,
        log_level=args.log_level,
    )


def _complain(error: ConfigError) -> int:
    from otel_posthog.gateway.configuration.bridge_file import BridgeFileError
    from otel_posthog.gateway.process.log_lines import escaped

    errors: Sequence[Exception] = error.errors if isinstance(error, BridgeFileError) else (error,)
    for each in errors:
        print(f"otel-posthog gateway: {escaped(str(each))}", file=sys.stderr)
    return 1


def _healthcheck(url: str) -> int:
    """0 where `url` answers 200; without a shell or curl in the image."""
    import http.client
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=3)
        with contextlib.closing(connection):
            connection.request("GET", parts.path or "/livez")
            status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"otel-posthog gateway: {url} does not answer ({type(error).__name__})", file=sys.stderr)
        return 1
    if status != 200:
        print(f"otel-posthog gateway: {url} answers {status}", file=sys.stderr)
        return 1
    return 0


def _schema() -> int:
    import json

    from otel_posthog.gateway.configuration.bridge_schema import bridge_json_schema

    print(json.dumps(bridge_json_schema(), indent=2, ensure_ascii=False))
    return 0


def _check(settings: GatewaySettings) -> int:
    from otel_posthog.cli.terminal import stdout_page
    from otel_posthog.gateway.process.check import check_gateway

    rows = list(check_gateway(settings))
    page = stdout_page()
    page.rows((row.level, row.name, row.text, "") for row in rows)
    print(page, end="")
    return 1 if any(row.level == "problem" for row in rows) else 0


def _serve(args: argparse.Namespace, settings: GatewaySettings) -> int:
    from otel_posthog.gateway.process.log_lines import configure_logging
    from otel_posthog.gateway.process.service import secrets_of
    from otel_posthog.gateway.process.supervisor import Place

    place = Place.of(os.environ)
    secrets: list[str] = secrets_of(settings)
    configure_logging(settings.log, secrets=lambda: secrets, worker=place.number if place is not None else None)

    def load() -> GatewaySettings:
        found = _load(args)
        # The old ones too: something that is still on its way may name them.
        secrets.extend(each for each in secrets_of(found) if each not in secrets)
        return found

    from otel_posthog.gateway.process.cores import usable_cores

    workers = settings.workers or usable_cores()
    if place is None and workers > 1:
        return _supervise(args, settings, workers)
    from otel_posthog.gateway.process.running import run_gateway

    if place is None:
        return run_gateway(settings, load)
    return _work(settings, load, place)


def _work(settings: GatewaySettings, load: Callable[[], GatewaySettings], place: Place) -> int:
    """One worker of several: ports are shared, its own door is on loopback, and its supervisor is told of it."""
    from dataclasses import replace

    from otel_posthog.gateway.process.running import run_gateway
    from otel_posthog.gateway.process.service import GatewayService
    from otel_posthog.gateway.process.supervisor import wait_for_end_of_input
    from otel_posthog.gateway.receivers.settings import Listen

    def as_worker(settings: GatewaySettings) -> GatewaySettings:
        return replace(
            settings,
            admin=Listen("127.0.0.1", 0),
            receivers=replace(settings.receivers, reuse_port=True),
        )

    def started(service: GatewayService) -> None:
        place.serving(service.admin.port if service.admin is not None else 0)

    return run_gateway(
        as_worker(settings),
        lambda: as_worker(load()),
        make=lambda settings: GatewayService(settings, worker=place.number, workers=place.workers),
        started=started,
        orphaned=wait_for_end_of_input,
    )


def _supervise(args: argparse.Namespace, settings: GatewaySettings, workers: int) -> int:
    from otel_posthog.gateway.process.supervisor import Supervisor, reserve, spawner

    http, http_port = reserve(settings.receivers.http, "listen.http")
    grpc, grpc_port = reserve(settings.receivers.grpc, "listen.grpc")
    words: list[str] = []
    for option, value in (
        ("--config", args.config),
        ("--http", "off" if http is None else str(http)),
        ("--grpc", "off" if grpc is None else str(grpc)),
        ("--spool", args.spool),
        ("--acknowledge", args.acknowledge),
        ("--log-format", args.log_format),
        ("--log-level", args.log_level),
    ):
        words.extend([option, value] if value else [])
    try:
        return Supervisor(settings, workers, spawner(words, workers)).run()
    finally:
        for port in (http_port, grpc_port):
            if port is not None:
                port.close()
