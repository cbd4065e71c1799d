"""What a Kubernetes operator's sitecustomize does: initialize() directly, no wrapper before it."""

import logging

logging.basicConfig(level=logging.WARNING)

from opentelemetry.instrumentation.auto_instrumentation import initialize

initialize()
initialize()

from opentelemetry import trace

with trace.get_tracer("shop").start_as_current_span(
    "checkout", attributes={"posthog.event": "order", "posthog.distinct_id": "ada"}
):
    pass
