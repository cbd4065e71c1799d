"""What frameworks know: who is logged in, which request or task is at work, and errors that a handler answered.

Each framework is a real `opentelemetry_instrumentor`, so that the standard variable switches it off
(`OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=posthog_flask`), and works in plain code
(`PostHogFlaskInstrumentor().instrument()`). With the gate shut nothing is wrapped; no framework is imported unless the
app does so.

`visit` is one request from its edge to its end, `browser` what its headers and cookies say, `people` what follows from
a user, a login and a logout, `user` what a user object says; the framework modules find the places.
"""
