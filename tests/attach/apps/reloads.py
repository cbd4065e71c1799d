"""Reloads rules and settings while it runs, good ones and bad ones.

Usage: reloads.py RULES_FILE OTHER_ENDPOINT
"""

import logging
import os
import sys
from pathlib import Path

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")

from opentelemetry import trace

from otel_posthog import auto

RULES = """
rules:
  - name: checkouts
    match: {name: checkout}
    capture: EVENT
    distinct_id: ada
"""
file = Path(sys.argv[1])


def use(event):
    file.write_text(RULES.replace("EVENT", event))
    return auto.reload()


def checkout():
    with trace.get_tracer("shop").start_as_current_span("checkout"):
        pass
    trace.get_tracer_provider().force_flush()


checkout()
print("good", use("after reload"))
checkout()
file.write_text("rules: [{name: broken, captur: x}]")
print("broken", auto.reload())
checkout()
file.unlink()
print("absent", auto.reload())
checkout()
os.environ["OTEL_POSTHOG_ENABLED"] = "false"
print("off", auto.reload())
del os.environ["OTEL_POSTHOG_ENABLED"]
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = sys.argv[2]
print("moved", use("at the other place"))
checkout()
