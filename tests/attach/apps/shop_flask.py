"""An ordinary Flask app: OpenTelemetry's API at the most, nothing of ours."""

import logging

from flask import Flask
from opentelemetry import trace

app = Flask("shop")
logger = logging.getLogger("shop")


@app.get("/buy")
def buy():
    trace.get_current_span().set_attributes(
        {
            "posthog.event": "order paid",
            "posthog.properties.total": 12.5,
            "posthog.set.plan": "pro",
            "posthog.groups.company": "acme",
        }
    )
    return "thank you"


@app.get("/fail")
def fail():
    with (
        trace.get_tracer("shop").start_as_current_span("check stock"),
        trace.get_tracer("shop").start_as_current_span("ask warehouse"),
    ):
        raise ValueError("no stock left")


@app.get("/note")
def note():
    logger.warning("newsletter", extra={"posthog.event": "newsletter joined", "posthog.distinct_id": "grace"})
    return "noted"


@app.get("/")
def index():
    return "welcome"
