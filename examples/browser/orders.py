"""The service behind the shop: it has no users, sessions or browsers, and never asks who it works for."""

from fastapi import FastAPI
from opentelemetry import trace

import otel_posthog
from otel_posthog import flags

app = FastAPI()
tracer = trace.get_tracer("orders")


@app.get("/offers")
async def offers():
    otel_posthog.capture("offers shown", {"offers": 2})
    return ["Enamel mug", "Two-person tent"]


@app.post("/orders")
def order(cart: dict):
    otel_posthog.capture("order received", {"total": cart["total"]})
    wrapped = flags.enabled("gift-wrap") and flags.variant("order-button") == "friendly"
    with tracer.start_as_current_span("reserve", attributes={"posthog.event": "stock reserved"}):
        return {"wrapped": wrapped}
