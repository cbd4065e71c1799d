"""`make demo`: a visitor's journey through an unmodified shop, and what PostHog saw of it.

Starts the local PostHog (`otel-posthog emulator`) and the shop under `opentelemetry-instrument` with the two OTLP
variables, clicks through the shop as two customers and a robot would, and prints the events, people, companies and
errors that arrived. With `--once` it leaves then; else both stay up for you to click in until Ctrl-C.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from otel_posthog.emulator import Emulator

HERE = Path(__file__).resolve().parent
TOKEN = "phc_demo"
PORT = 8765
WAIT = 30.0
"""Seconds for the shop to start, and for its events to arrive."""


def main() -> int:
    """Runs the demo; the exit code is 1 when something did not arrive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="print what arrived and leave")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Emulator(port=free_port(PORT), flags=HERE / "flags.yaml") as posthog, Shop(posthog.endpoint) as shop:
        shop.wait_until_up()
        journey(shop.url)
        try:
            posthog.wait_for(everything_arrived, timeout=WAIT)
        except TimeoutError as error:
            print(f"Not everything arrived: {error}\n\nThe shop's log:\n{shop.log()}", file=sys.stderr)
            return 1
        show(posthog)
        print(f"\nThe local PostHog is at {posthog.url}, the shop at {shop.url}")
        if not arguments.once:
            print("Sign up, buy a mug, order ten tents: events appear on the page within a second. Ctrl-C ends both.")
            try:
                shop.process.wait()
            except KeyboardInterrupt:
                print()
    return 0


class Program:
    """One program in a process of its own; its commands are printed, and its log is kept."""

    def __init__(
        self, name: str, command: list[str], variables: dict[str, str], folder: Path | None = None, title: str = ""
    ) -> None:
        self.name = name
        print(f"{title or name}:\n")
        for key, value in variables.items():
            print(f"    export {key}={value}")
        print(f"    {' '.join([Path(command[0]).name, *command[1:]])}\n")
        scripts = Path(sys.executable).parent
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "POSTHOG_"))}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the program
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**clean, **variables, "PATH": f"{scripts}{os.pathsep}{clean.get('PATH', '')}"},
        )

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def log(self) -> str:
        """What it printed so far."""
        self._log.seek(0)
        return self._log.read()

    def wait_for(self, url: str) -> None:
        """Returns when `url` answers 200.

        Raises:
            SystemExit: The program ended, or did not answer in time.
        """
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"{self.name} ended with exit code {self.process.returncode}:\n{self.log()}")
            try:
                urllib.request.urlopen(url, timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        sys.exit(f"{self.name} did not start:\n{self.log()}")


class Shop(Program):
    """The shop, started as its owner would start it."""

    def __init__(self, endpoint: str, token: str = TOKEN) -> None:
        port = free_port(5001)
        self.url = f"http://127.0.0.1:{port}"
        scripts = Path(sys.executable).parent
        super().__init__(
            "The shop",
            [str(scripts / "opentelemetry-instrument"), "flask", "--app", "shop", "run", "--port", str(port)],
            {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TOKEN": token},
            HERE,
            title="Starting the shop",
        )

    def wait_until_up(self) -> None:
        """Returns when the shop answers.

        Raises:
            SystemExit: It ended, or did not answer in time.
        """
        self.wait_for(f"{self.url}/healthz")


class Browser:
    """Somebody who clicks: keeps cookies, sends a user agent, follows redirects."""

    def __init__(self, url: str, user_agent: str) -> None:
        self.url = url
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)
        self._opener.addheaders = [("User-Agent", user_agent)]

    def get(self, path: str) -> int:
        """The status of a page."""
        return self._open(path, None)

    def post(self, path: str, **fields: object) -> int:
        """The status after sending a form."""
        return self._open(path, urllib.parse.urlencode(fields).encode())

    def _open(self, path: str, body: bytes | None) -> int:
        try:
            with self._opener.open(self.url + path, body, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def journey(url: str) -> None:
    """Browse, sign up, check out, an error, come back on the phone; a second customer; a robot."""
    anna = Browser(url, FIREFOX)
    anna.get("/?utm_source=newsletter")
    anna.get("/products/mug")
    anna.post("/signup", email="anna@example.com", password="secret", company="Alpine Ltd", plan="pro")
    anna.post("/checkout", sku="mug", quantity=2)
    anna.post("/checkout", sku="tent", quantity=10)

    phone = Browser(url, IPHONE)
    phone.get("/products/stove")
    phone.post("/login", email="anna@example.com", password="secret")
    phone.post("/checkout", sku="stove")

    ben = Browser(url, FIREFOX)
    ben.get("/products/tent")
    ben.post("/login", email="ben@example.com", password="guess")
    ben.post("/signup", email="ben@example.com", password="hunter2", company="Basecamp GmbH")
    ben.post("/checkout", sku="tent")

    Browser(url, GOOGLEBOT).get("/")


EXPECTED = {
    "$exception": 1,
    "$groupidentify": 2,
    "$identify": 3,
    "$pageview": 7,
    "api_request": 8,
    "order paid": 3,
    "sign-in failed": 1,
    "user signed in": 1,
    "user signed up": 2,
}


def everything_arrived(posthog: Emulator) -> bool:
    """Everything that the journey causes is in, and some of the spans behind it."""
    names = [event["event"] for event in posthog.events()]
    return all(names.count(name) >= count for name, count in EXPECTED.items()) and len(posthog.spans()) > 0


def show(posthog: Emulator) -> None:
    """Prints what arrived: events, people, companies, errors, and how many spans and logs stand behind them."""
    events = sorted(posthog.events(), key=lambda event: (event["timestamp"], event["event"]))
    table(
        "Events",
        ("time", "event", "person", "what"),
        [(event["timestamp"][11:23], event["event"], event["distinct_id"], details(event)) for event in events],
    )
    table(
        "People",
        ("events", "properties", "known as"),
        [
            (str(person["events"]), pairs(person["properties"]), ", ".join(known_as(person)))
            for person in posthog.persons()
        ],
    )
    table(
        "Companies",
        ("company", "events", "properties"),
        [(group["key"], str(group["events"]), pairs(group["properties"])) for group in posthog.groups()],
    )
    table(
        "Errors",
        ("issue", "times", "users", "at"),
        [
            (f"{issue['type']}: {issue['value']}", str(issue["count"]), str(issue["users"]), crash_frame(issue))
            for issue in posthog.issues()
        ],
    )
    print(
        f"\nBehind them: {len(posthog.spans())} spans and {len(posthog.logs())} log records in PostHog's own tracing "
        "and logs."
    )


def known_as(person: dict[str, Any]) -> list[str]:
    """A person's ids, first the one that the shop uses."""
    return sorted(person["distinct_ids"], key=lambda distinct_id: distinct_id != person["main_id"])


def pairs(properties: dict[str, Any]) -> str:
    """Properties in one line."""
    return "  ".join(f"{name}={value}" for name, value in sorted(properties.items()) if not name.startswith("$"))


def crash_frame(issue: dict[str, Any]) -> str:
    """Where it was raised."""
    frame = issue["exceptions"][0]["stacktrace"]["frames"][-1]
    return f"{frame['filename']}:{frame['lineno']} in {frame['function']}"


def details(event: dict[str, Any]) -> str:
    """The few properties of an event that a person would ask for first."""
    properties = event["properties"]
    if event["event"] == "$identify":
        return f"was {properties['$anon_distinct_id']}"
    if event["event"] == "$groupidentify":
        return f"{properties['$group_type']} {properties['$group_key']}"
    for exception in properties.get("$exception_list", []):
        return f"{exception['type']}: {exception['value']}"
    wanted = ["$request_method", "$pathname", "sku", "quantity", "total", "currency", "plan"]
    wanted += ["$browser", "$device_type"]
    return "  ".join(str(properties[name]) for name in wanted if name in properties)


def table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints rows in columns as wide as they need."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    print(f"\n{title}")
    for row in [head, tuple("─" * width for width in widths), *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("no free port on the loopback interface")


if __name__ == "__main__":
    sys.exit(main())
