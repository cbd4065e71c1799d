"""Installs twice beside ready providers and prints, as JSON, everything that changed by it."""

import json
import logging
import os
import signal
import sys
import threading

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
_logs.set_logger_provider(LoggerProvider(shutdown_on_exit=False))

HEAVY = {"urllib3", "requests", "yaml", "google.protobuf", "ua_parser", "posthog", "jsonschema", "multiprocessing"}
logged = []


class Keep(logging.Handler):
    def emit(self, record):
        logged.append([record.levelname, record.getMessage()])


def shape(thing, seen):
    """The class names and values of an object's inside, deep enough to see a processor or a wrapper come."""
    if id(thing) in seen or len(seen) > 2000:
        return "…"
    seen.add(id(thing))
    inside = getattr(thing, "__dict__", None)
    if isinstance(thing, (list, tuple)):
        return [shape(part, seen) for part in thing]
    if (
        inside is None
        or isinstance(thing, type)
        or type(thing).__module__.split(".")[0]
        not in {
            "opentelemetry",
            "otel_posthog",
        }
    ):
        return type(thing).__name__
    return {type(thing).__name__: {key: shape(value, seen) for key, value in sorted(inside.items())}}


def state():
    tracer, logger = trace.get_tracer_provider(), _logs.get_logger_provider()
    return {
        "threads": {thread.name for thread in threading.enumerate()},
        "descriptors": len(os.listdir("/proc/self/fd")),
        "modules": set(sys.modules),
        "environment": dict(os.environ),
        "tracer provider": (id(tracer), json.dumps(shape(tracer, set()))),
        "logger provider": (id(logger), json.dumps(shape(logger, set()))),
        "handlers": str(signal.getsignal(signal.SIGTERM)),
    }


root = logging.getLogger()
root.setLevel(logging.INFO)
root.addHandler(Keep())
before = state()
from otel_posthog import auto

installed = [auto.install(), auto.install()]
after = state()
new = after["modules"] - before["modules"]
print(
    json.dumps(
        {
            "threads": sorted(after["threads"] - before["threads"]),
            "descriptors": after["descriptors"] - before["descriptors"],
            "modules": sorted(
                name
                for name in new
                if any(name == heavy or name.startswith(heavy + ".") for heavy in HEAVY)
                or name.startswith(
                    (
                        "otel_posthog.sdk",
                        "otel_posthog.delivery",
                        "otel_posthog.convert",
                        "otel_posthog.rules",
                        "otel_posthog.bridge",
                        "otel_posthog.assembly",
                    )
                )
            ),
            "environment": {k: v for k, v in after["environment"].items() if before["environment"].get(k) != v},
            "tracer provider": [] if after["tracer provider"] == before["tracer provider"] else ["changed"],
            "logger provider": [] if after["logger provider"] == before["logger provider"] else ["changed"],
            "handlers": [] if after["handlers"] == before["handlers"] else ["changed"],
            "logged": logged,
            "installed": installed,
        }
    )
)
