"""A process with pages to write, and a PostHog that says what it was asked."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.context.context import Context

from otel_posthog import assembly
from otel_posthog.api.control import shutdown
from otel_posthog.api.process import process
from otel_posthog.flags.process import client
from otel_posthog.observe.log import Complaints

TOKEN = "phc_pages"


class Upstream:
    """A server in PostHog's place.

    Attributes:
        asked: Method, path, headers (lower case) and body of what came to the relay's paths.
        status: Of its answers.
        headers: Of its answers.
        body: Of its answers.
        holding: Set: it answers; clear: it waits.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.body = b'{"status": 1}'
        self.holding = threading.Event()
        self.holding.set()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                ours = self.path.startswith("/i/v1/")  # the lane's own
                if not ours:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    upstream.asked.append((self.command, self.path, headers, body))
                    upstream.holding.wait(60)
                self.send_response(200 if ours else upstream.status)
                answer = b"{}" if ours else upstream.body
                for name, value in {} if ours else upstream.headers.items() if not ours else ():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _answer

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self.holding.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A PostHog that says what it was asked."""
    running = Upstream()
    yield running
    running.close()


@pytest.fixture
def setting(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets the process up by its environment: direct, to the upstream, unless variables say otherwise; "" unsets."""
    token = context.attach(Context())

    def forget() -> None:
        client.forget()
        shutdown(30)
        process.forget()
        gc.collect()

    def set_up(**variables: str) -> None:
        forget()
        usual = {
            "OTEL_POSTHOG_MODE": "direct",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{upstream.url}/i",
            "OTEL_EXPORTER_OTLP_TOKEN": TOKEN,
        }
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            monkeypatch.delenv(name)
        for name, value in {**usual, **variables}.items():
            monkeypatch.setenv(name, value)

    assembly.stop(0)
    monkeypatch.setattr(process, "complaints", Complaints(interval=float("inf")))
    set_up()
    yield set_up
    forget()
    context.detach(token)
