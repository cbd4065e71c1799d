"""A local PostHog for demo, development and tests: nobody needs an account to see the whole path work.

    limits, refusal, inflate, instants, project_token, received   the words of the protocol
    exchange, body                                                a request and its answer
    capture_v0, capture_v1, otlp                                  its rules: bytes in, what was accepted out; pure
    pipeline, issues                                              what ingestion makes of an event; pure
    schema, persons, store, queries                               SQLite
    flags/                                                        feature flags from a YAML file
    faults, ingest, app, web, server                              HTTP, and what it does wrong on purpose
    static/                                                       the page

Importing this package loads no server: starlette and uvicorn (extra `emulator`) come with the first `Emulator`.
"""

from otel_posthog.emulator.faults import ACTIONS, Fault, FaultPlan, parse_script
from otel_posthog.emulator.flags.document import FlagsError
from otel_posthog.emulator.limits import Limits
from otel_posthog.emulator.server import Emulator

__all__ = ["ACTIONS", "Emulator", "Fault", "FaultPlan", "FlagsError", "Limits", "parse_script"]
