"""An ordinary FastAPI app: nothing of ours."""

import logging

from fastapi import FastAPI
from opentelemetry import trace

app = FastAPI()
logger = logging.getLogger("shop")


@app.get("/buy")
async def buy():
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
async def fail():
    with (
        trace.get_tracer("shop").start_as_current_span("check stock"),
        trace.get_tracer("shop").start_as_current_span("ask warehouse"),
    ):
        raise ValueError("no stock left")


@app.get("/note")
async def note():
    logger.warning("newsletter", extra={"posthog.event": "newsletter joined", "posthog.distinct_id": "grace"})
    return "noted"


@app.get("/")
async def index():
    return "welcome"
