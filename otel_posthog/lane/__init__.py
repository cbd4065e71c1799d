"""Our own lane inside the process: what callbacks and the API hand over, until the bridge has it.

Two doors lead in: `sdk/`, whose processors hang on the app's providers, and `api/`, which needs none. Both hand over to
one `Worker`, so that late identity and "exceptions once" see everything that a request did. Nothing here imports the
OpenTelemetry SDK, since the API works where there is none.
"""
