"""Rows about a whole request: Flask behind gunicorn, five child spans, a trace that is not sampled.

The server's CPU for each request is compared, not the time that a client waits: the machine's other work would be in
that. A bare WSGI call would leave out the server's own part, which a request cannot do without.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.harness import Row, Side, interleaved

REQUESTS = 300
_ROOT = Path(__file__).parents[2]


def rows(url: str, rounds: int) -> Iterator[Row]:
    """All of this module."""
    with ExitStack() as stack:
        without = stack.enter_context(_gunicorn("without", url))
        for mode, target, moonshot in (("server", 1.1, 1.05), ("all", 1.5, 1.25)):
            with _gunicorn(mode, url) as with_us:
                results = interleaved(with_us("/cart/7"), without("/cart/7"), rounds)
                bare = interleaved(with_us("/empty/7"), without("/empty/7"), rounds)
            what = f"Flask request, 5 child spans, unsampled: `{mode}`"
            note = "nearly all of it is the SDK's own cost of recording the span" if mode == "server" else ""
            yield Row(what, "the same without us", *results, target, moonshot, note)
            yield Row(f"{what}, spans around nothing", "the same without us", *bare, None, None, "")


@contextmanager
def _gunicorn(mode: str, url: str) -> Iterator[Callable[[str], Side]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--workers=1", "--log-level=error", f"--bind=fd://{listener.fileno()}",
             "tests.bench.served:build()"],
            pass_fds=[listener.fileno()],
            cwd=_ROOT,
            env={**os.environ, "BENCH_MODE": mode, "BENCH_URL": url, "PYTHONPATH": str(_ROOT)},
        )  # fmt: skip
    try:
        _await(port)

        def asking(path: str) -> Side:
            def side() -> float:
                begun = float(_get(port, "/cpu"))
                for _ in range(REQUESTS):
                    assert _get(port, path) == b"cart 7"
                return (float(_get(port, "/cpu")) - begun) / REQUESTS

            return side

        yield asking
    finally:
        process.terminate()
        process.wait(30)


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"User-Agent": "Mozilla/5.0 Firefox/140.0"})
        return connection.getresponse().read()
    finally:
        connection.close()


def _await(port: int) -> None:
    for _ in range(200):
        try:
            _get(port, "/cpu")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("gunicorn did not start")
