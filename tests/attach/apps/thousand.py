"""Ends so many tagged spans, each of another person, and leaves at once: what is not sent yet is the exit's affair.

Usage: thousand.py COUNT [--stay]     (--stay: says "done" and waits to be killed)
"""

import sys
import time

from opentelemetry import trace

count = int(sys.argv[1])
tracer = trace.get_tracer("thousand")
for number in range(count):
    with tracer.start_as_current_span(
        "checkout", attributes={"posthog.event": f"order {number % 7}", "posthog.distinct_id": f"person-{number}"}
    ) as span:
        span.set_attribute("posthog.properties.number", number)
if "--stay" in sys.argv:
    print("done", flush=True)
    time.sleep(600)
