"""`otel-posthog doctor`: tries the set-up and says for each finding what, why and the exact mend."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from otel_posthog.cli import network_checks, setup_checks
from otel_posthog.cli.findings import Finding, problem
from otel_posthog.cli.installed import Installed, look_around
from otel_posthog.cli.terminal import Page, stdout_page
from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import Settings
from otel_posthog.delivery.protocols import Clock, Transport
from otel_posthog.errors import ConfigError

HELP = "test the set-up; for each finding what, why and the exact mend"
DESCRIPTION = """
Tests the set-up of this environment: the gate, what is installed, exporters, rules and their functions, spool, whether
the servers answer, take the token and have the same time, whether a gateway is ready, PostHog knows the keys for flags,
and posthog-js is there. Exit code 1 if there is a problem. Nothing is stored anywhere, except with --send. Inside a
container run it there: what counts is the environment of the service.
"""

_SECONDS_AT_MOST = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `doctor` to `parser`."""
    parser.add_argument("--send", action="store_true", help="send one personless test event and see it accepted")
    parser.add_argument("--offline", action="store_true", help="open no connection")
    parser.add_argument("--app-url", metavar="URL", default="", help="ask this address of your app for its CORS rules")
    parser.add_argument(
        "--origin", metavar="ORIGIN", default="", help="origin of the pages that call it; default: its own"
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=5.0, help="limit of each connection (5)")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= _SECONDS_AT_MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to {_SECONDS_AT_MOST:g}")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Prints the findings; 1 where one is a problem."""
    findings = list(
        examine(
            os.environ,
            look_around(),
            send=args.send,
            offline=args.offline,
            app_url=args.app_url,
            origin=args.origin,
            timeout=args.timeout,
        )
    )
    problems = sum(finding.level == "problem" for finding in findings)
    if args.json:
        print(json.dumps({"problems": problems, "findings": [asdict(each) for each in findings]}, indent=2))
    else:
        print(render(findings, stdout_page()), end="")
    return 1 if problems else 0


def examine(
    environ: Mapping[str, str],
    installed: Installed,
    *,
    send: bool = False,
    offline: bool = False,
    app_url: str = "",
    origin: str = "",
    timeout: float = 5.0,
    transport: Transport | None = None,
    clock: Clock | None = None,
) -> Iterator[Finding]:
    """Every finding, one check after the other.

    Args:
        environ: The environment.
        installed: What is installed.
        send: Send a test event.
        offline: Open no connection.
        app_url: Address of the app whose CORS rules are asked for, "" for none.
        origin: Origin of the pages that call it.
        timeout: Seconds for each connection.
        transport: Replaces the HTTP client, for tests.
        clock: Replaces the system clock, for tests.
    """
    try:
        settings = load_settings(environ)
    except ConfigError as error:
        yield problem(
            "settings",
            setup_checks.without_hint(error),
            "with a wrong setting otel-posthog stays off",
            error.hint or "Mend or unset it.",
        )
        settings = Settings(enabled=False)
    else:
        yield from setup_checks.gate(settings)
    yield from _setup(environ, installed, settings)
    if offline:
        return
    lanes = list(_network(settings, send=send, timeout=timeout, transport=transport, clock=clock))
    yield from lanes
    yield from _beside(settings, environ, lanes, timeout)
    if app_url:
        yield from network_checks.cors(app_url, origin or _origin_of(app_url), timeout)


def _setup(environ: Mapping[str, str], installed: Installed, settings: Settings) -> Iterator[Finding]:
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: setup_checks.token(settings),
        lambda: setup_checks.hook(installed),
        lambda: setup_checks.distribution(environ, installed),
        lambda: setup_checks.exporters(environ, settings, installed),
        lambda: setup_checks.config_file(environ),
        lambda: setup_checks.instrumentations(environ, installed),
        lambda: setup_checks.versions(installed),
        lambda: setup_checks.rules(settings),
        lambda: setup_checks.spool(settings),
    )
    for check in checks:
        yield from check()


def _network(
    settings: Settings, *, send: bool, timeout: float, transport: Transport | None, clock: Clock | None
) -> Iterator[Finding]:
    lanes = network_checks.lanes_of(settings)
    if not lanes:
        if send:
            yield problem(
                "test event", "there is nowhere to send to", "the gate is shut", "Mend the findings above first."
            )
        return
    from otel_posthog.delivery.clock import SystemClock
    from otel_posthog.delivery.transport import Urllib3Transport

    ticks = clock or SystemClock()
    for lane in lanes:
        carrier = transport or Urllib3Transport(
            ca_file=lane.ca_file, client_cert=lane.client_cert, client_key=lane.client_key
        )
        yield from network_checks.reach(lane, carrier, ticks, timeout)
        if send:
            yield from network_checks.send_event(lane, settings, ticks, timeout, transport)


def _beside(settings: Settings, environ: Mapping[str, str], lanes: list[Finding], timeout: float) -> Iterator[Finding]:
    """What stands beside the lanes: a gateway, flags, posthog-js."""
    if not settings.enabled:
        return
    from otel_posthog.cli import service_checks

    wrong = [each.what for each in lanes if each.level == "problem"]
    unreachable = {
        lane.url
        for lane in network_checks.lanes_of(settings)
        if any(what.startswith(network_checks.without_query(lane.url)) for what in wrong)
    }
    for lane in network_checks.lanes_of(settings):
        if lane.url not in unreachable:
            yield from service_checks.gateway(lane, environ, timeout)
    for check in service_checks.BESIDE:
        yield from check(settings, timeout, frozenset(unreachable))


def _origin_of(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def render(findings: list[Finding], page: Page) -> str:
    """The findings as text for people: problems first, then what works otherwise than one may think, then the rest."""
    by_level = {level: [each for each in findings if each.level == level] for level in ("problem", "warn", "ok")}
    problems, warnings = len(by_level["problem"]), len(by_level["warn"])
    if problems or warnings:
        counts = [
            f"{number} {word}{'s' * (number != 1)}"
            for number, word in ((problems, "problem"), (warnings, "warning"))
            if number
        ]
        page.title(f"otel-posthog doctor: {', '.join(counts)}")
    else:
        page.title("otel-posthog doctor: all well")
    for level in ("problem", "warn"):
        for each in by_level[level]:
            page.finding(each.level, each.check, each.what, each.why, each.mend)
    if by_level["ok"]:
        page.heading("Fine")
        page.rows(("ok", each.check, each.what, "") for each in by_level["ok"])
    return str(page)
