"""`otel-posthog gateway`: OTLP from Collectors and SDKs, kept until PostHog has what it holds.

docs/architecture.md draws the way of a request through these rooms; `inbound.py` and `parts.py` are what they promise
each other. `decode/` alone serves `otel-posthog explain`, too.
"""
