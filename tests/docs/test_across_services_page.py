"""docs/identity-across-services.md, run: two services of one process, with real requests between them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dirty_equals import IsPartialDict

from otel_posthog.config.environment import OURS
from otel_posthog.emulator import Emulator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "identity-across-services.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

AROUND = """
import json, os, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from opentelemetry import context, propagate, trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from otel_posthog import auto

trace.set_tracer_provider(TracerProvider())
auto.install()
RequestsInstrumentor().instrument()
tracer = trace.get_tracer("shop")


class Orders(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        came = propagate.extract({k.lower(): v for k, v in self.headers.items()}, context.Context())
        token = context.attach(came)
        with tracer.start_as_current_span("POST /orders", kind=SpanKind.SERVER):
            place(body)
        context.detach(token)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Orders)
os.environ["ORDERS"] = f"http://127.0.0.1:{server.server_address[1]}"
threading.Thread(target=server.serve_forever, daemon=True).start()
ThreadingInstrumentor().instrument()
texts = {texts!r}
exec(compile(texts[0], "page", "exec"), globals())
with tracer.start_as_current_span("request", kind=SpanKind.SERVER):
    checkout(["mug", "cup"])
    exec(compile(texts[2], "page", "exec"), globals())
    ThreadingInstrumentor().uninstrument()
    exec(compile(texts[3], "page", "exec"), globals())
exec(compile(texts[1], "page", "exec"), globals())
message = {}
with tracer.start_as_current_span("send", kind=SpanKind.PRODUCER, attributes={"server.address": "kafka"}):
    otel_posthog.identify("ada")
    propagate.inject(message)


class Message:
    headers = [(name, value.encode()) for name, value in message.items()]


context.attach(context.Context())
handle(Message)
"""


@pytest.mark.timeout(180)
def test_the_page(tmp_path: Path) -> None:
    """Its blocks give what it says: one person in both services, in a pool, in a thread and with a message."""
    texts = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    script = tmp_path / "page.py"
    script.write_text(AROUND.replace("{texts!r}", repr(texts)))
    with Emulator() as posthog:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(script)],
            env={
                "PATH": os.environ["PATH"],
                "OTEL_EXPORTER_OTLP_ENDPOINT": posthog.endpoint,
                "OTEL_EXPORTER_OTLP_TOKEN": "phc_pages",
                "OTEL_POSTHOG_MODE": "direct",
                "OTEL_POSTHOG_BAGGAGE_PROPERTIES": "plan",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "Traceback" not in done.stderr
        events = {event["event"]: event for event in posthog.events()}
        assert len(posthog.persons()) == 1
    assert sorted(events) == ["mail sent", "order placed", "order shipped", "report built"]
    assert {event["distinct_id"] for event in events.values()} == {"ada"}
    assert events.pop("order shipped")["distinct_id"] == "ada"
    assert {str(event["properties"]["$groups"]) for event in events.values()} == {"{'company': 'acme'}"}
    assert events["order placed"]["properties"] == IsPartialDict(plan="pro", items=2)


def test_every_setting_is_there() -> None:
    """The table has each variable about baggage, with its default."""
    page = PAGE.read_text(encoding="utf-8")
    for row in OURS:
        if row.name.startswith("OTEL_POSTHOG_BAGGAGE"):
            default = f"`{row.default}`" if row.default else "–"
            if row.name != "OTEL_POSTHOG_BAGGAGE_KEYS":
                assert f"| `{row.name}` | {default} |" in page, row.name
            assert f"`{row.name}`" in page
