"""An app that configures logfire itself; its token stays unset, so logfire sends nothing anywhere."""

import os

import logfire
from opentelemetry import trace
from opentelemetry._logs import get_logger

for _ in range(2 if os.environ["LOGFIRE_CONFIGURED"] == "twice" else 1):
    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
with logfire.span("checkout", **{"posthog.event": "order 1", "posthog.distinct_id": "ada"}):
    pass
get_logger("shop").emit(event_name="note", attributes={"posthog.event": "log", "posthog.distinct_id": "ada"})
assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
