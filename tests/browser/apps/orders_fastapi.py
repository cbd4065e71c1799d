"""The service behind the shop: it has no users, sessions or browsers, and never asks who it works for."""

from fastapi import FastAPI
from opentelemetry import trace

import otel_posthog
from otel_posthog import flags

app = FastAPI()
tracer = trace.get_tracer("orders")


@app.get("/offers")
async def offers():
    """What the page offers."""
    otel_posthog.capture("offers shown", {"offers": 3})
    return {"offers": 3}


@app.post("/orders")
def order(cart: dict):
    """One order."""
    # How often PostHog was asked so far: what the shop was told came along.
    otel_posthog.capture("order received", {"total": cart["total"], "asked": len(flags.stats().answered)})
    if flags.enabled("hidden") and flags.variant("button") == "green":
        with tracer.start_as_current_span("reserve", attributes={"posthog.event": "stock reserved"}):
            pass
    return {}
