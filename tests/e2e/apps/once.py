"""An app that annotates one span, fails once and does something that only a rule knows about."""

from opentelemetry import trace

tracer = trace.get_tracer("shop")


def refund() -> None:
    """Fails."""
    raise LookupError("no such order")


with tracer.start_as_current_span("request", attributes={"user.id": "ada"}):
    with tracer.start_as_current_span("checkout") as span:
        span.set_attributes({"posthog.event": "order completed", "posthog.distinct_id": "ada"})
    with tracer.start_as_current_span("newsletter", attributes={"user.id": "ada", "list": "weekly"}):
        pass
    try:
        with tracer.start_as_current_span("refund", attributes={"user.id": "ada"}):
            refund()
    except LookupError:
        pass
