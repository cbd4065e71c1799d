"""Names, no behaviour: what we read (`otel`) and what we write (`posthog`)."""
