"""`otel-posthog tail`: what a running gateway makes of what it gets, live."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlencode, urlsplit

from otel_posthog.errors import ConfigError

if TYPE_CHECKING:
    from http.client import HTTPConnection

HELP = "show the events of a running gateway, live"
DESCRIPTION = """
Shows each event that a running gateway makes, as it makes it, one line each; it asks the gateway's admin port, which
without a token answers this machine alone. Where the gateway goes away it waits for it to come back; what happened
meanwhile is not shown. Ctrl-C ends it.
"""

DEFAULT_URL = "http://127.0.0.1:8887"
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each new attempt; the last one for ever."""

_SILENCE = 30.0
"""Seconds after which a gateway that says nothing is gone: it sends an empty line every ten."""
_REFUSED_HINT = "Name a file that holds the gateway's `admin_token`. If it has none, --url is not its admin address"
_MAX_LINE = 16 * 1024 * 1024

Document = dict[str, Any]


class _GoneError(Exception):
    """The gateway went away, or is not there yet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this command to `parser`."""
    parser.add_argument(
        "--url", default=DEFAULT_URL, help="the gateway's admin address (default: %(default)s)", type=_address
    )
    parser.add_argument("--event", default="", metavar="NAME", help="only events of this name")
    parser.add_argument("--distinct-id", default="", metavar="ID", help="only events of this person")
    parser.add_argument("--project", default="", metavar="NAME", help="only of this project of the gateway")
    parser.add_argument("--drops", action="store_true", help="also what became no event, and why")
    parser.add_argument("--count", type=_count, default=0, metavar="N", help="stop after N lines")
    parser.add_argument("--token-file", metavar="FILE", help="file with the gateway's admin token")
    parser.add_argument("--json", action="store_true", help="print JSON for programs, a line each")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _address(text: str) -> SplitResult:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or "@" in parts.netloc:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write it as {DEFAULT_URL}")
    return parts


def run(args: argparse.Namespace) -> int:
    """Prints until interrupted, or until `--count` lines.

    Raises:
        ConfigError: The gateway is not there at first, or does not let us look.
    """
    from otel_posthog.cli.tail_text import show

    wanted = {"event": args.event, "distinct_id": args.distinct_id, "project": args.project}
    asked = {name: text for name, text in wanted.items() if text} | ({"drops": "1"} if args.drops else {})
    left = args.count
    lines = follow(args.url, asked, _token(args.token_file), say=_say, pause=_pause)
    with contextlib.closing(lines):
        for document in lines:
            if args.json:
                # ASCII alone, so that nothing in an event reaches a terminal as an escape sequence.
                print(json.dumps(document, separators=(",", ":")), flush=True)
            else:
                show(document, sys.stdout)
            if document.get("type") != "missed":
                left -= 1
                if left == 0:
                    break
    return 0


def _token(path: str | None) -> str:
    if path is None:
        return ""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise ConfigError(
            str(getattr(error, "strerror", "") or "it is no text"), key="--token-file", source=path
        ) from None
    token = lines[0] if lines else ""
    if not token.isascii() or not token.isprintable() or not token:
        raise ConfigError("it holds no token", key="--token-file", source=path, hint="Write the token on one line")
    return token


def _say(text: str) -> None:
    print(f"otel-posthog tail: {text}", file=sys.stderr, flush=True)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def follow(
    url: SplitResult,
    asked: Mapping[str, str],
    token: str,
    *,
    say: Callable[[str], None],
    pause: Callable[[float], None],
) -> Generator[Document, None, None]:
    """Every document, over any number of connections.

    Args:
        url: The gateway's admin address.
        asked: Filters of `/tail`.
        token: Admin token, "" for none.
        say: Tells the user about the connection.
        pause: Waits so many seconds.

    Raises:
        ConfigError: The gateway is not there at first, or does not let us look.
    """
    name = f"{url.scheme}://{url.netloc}"
    attempts, connected_before = 0, False
    while True:
        try:
            for document in _connection(url, asked, token):
                if document is None:
                    # A connection that was let in, not one that was merely opened.
                    say(f"connected to {name}" if not connected_before else f"connected to {name} again")
                    attempts, connected_before = 0, True
                else:
                    yield document
            why = "it ended the stream"
        except _GoneError as error:
            why = str(error)
        if not connected_before:
            raise ConfigError(
                f"no gateway answers ({why})",
                key="--url",
                source=name,
                hint="Start `otel-posthog gateway`, or name its admin address",
            )
        seconds = PAUSES[min(attempts, len(PAUSES) - 1)]
        attempts += 1
        say(f"no connection to {name} ({why}); again in {seconds:g} s")
        pause(seconds)


def _connection(url: SplitResult, asked: Mapping[str, str], token: str) -> Iterator[Document | None]:
    """`None` once it is open, then the documents of one connection, until the gateway ends it."""
    import http.client

    path = f"{url.path.rstrip('/')}/tail" + (f"?{urlencode(asked)}" if asked else "")
    connection = _open(url)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refused(answer.status, answer.read(1_000).decode("utf-8", "replace").strip())
        yield None
        while line := answer.readline(_MAX_LINE):
            if line.strip() and line.endswith(b"\n"):
                document = json.loads(line)
                if isinstance(document, dict):
                    yield document
    except (OSError, http.client.HTTPException) as error:
        raise _GoneError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None
    except ValueError:
        raise _GoneError("it does not speak our language") from None
    finally:
        connection.close()


def _open(url: SplitResult) -> HTTPConnection:
    import http.client

    assert url.hostname
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname, url.port, timeout=_SILENCE)


def _refused(status: int, text: str) -> Exception:
    if status in {502, 503, 504}:
        return _GoneError(text or f"HTTP {status}")
    if status == 401:
        return ConfigError(text, key="--token-file", hint=_REFUSED_HINT)
    if status in {400, 403}:
        return ConfigError(f"the gateway says: {text}")
    return ConfigError(
        f"HTTP {status}: that is not a gateway's admin address", key="--url", hint="It listens on 8887 by default"
    )
