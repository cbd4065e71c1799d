"""OpenTelemetry attribute names that we read, old and new spelling side by side; no behaviour.

Spelled here because `semconv` may not import OpenTelemetry; `tests/unit/test_semconv.py` compares them with the
official package. A tuple lists the spellings of one meaning, preferred first.
"""

from __future__ import annotations

from typing import Final

Spellings = tuple[str, ...]

HTTP_METHOD: Final[Spellings] = ("http.request.method", "http.method")
HTTP_STATUS: Final[Spellings] = ("http.response.status_code", "http.status_code")
HTTP_ROUTE: Final[Spellings] = ("http.route",)
URL_FULL: Final[Spellings] = ("url.full", "http.url")
URL_PATH: Final[Spellings] = ("url.path",)
URL_QUERY: Final[Spellings] = ("url.query",)
HTTP_TARGET: Final[Spellings] = ("http.target",)
URL_SCHEME: Final[Spellings] = ("url.scheme", "http.scheme")
SERVER_ADDRESS: Final[Spellings] = ("server.address", "http.host", "http.server_name", "net.host.name")
SERVER_PORT: Final[Spellings] = ("server.port", "net.host.port")
CLIENT_ADDRESS: Final[Spellings] = ("client.address", "http.client_ip", "net.sock.peer.addr", "net.peer.ip")
USER_AGENT: Final[Spellings] = ("user_agent.original", "http.user_agent")
REFERRER: Final[Spellings] = ("http.request.header.referer", "http.request.header.referrer")

ENVIRONMENT: Final[Spellings] = ("deployment.environment.name", "deployment.environment")
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE: Final = "service.instance.id"
OS_TYPE: Final = "os.type"
RUNTIME_NAME: Final = "process.runtime.name"
RUNTIME_VERSION: Final = "process.runtime.version"

EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_ESCAPED: Final = "exception.escaped"

USER_ID: Final = "user.id"
ENDUSER_ID: Final = "enduser.id"
ENDUSER_PSEUDO_ID: Final = "enduser.pseudo.id"
SESSION_ID: Final = "session.id"

HEADER_DISTINCT_ID: Final[Spellings] = (
    "http.request.header.x_posthog_distinct_id",
    "http.request.header.x-posthog-distinct-id",
)
HEADER_SESSION_ID: Final[Spellings] = (
    "http.request.header.x_posthog_session_id",
    "http.request.header.x-posthog-session-id",
)

GEN_AI_PREFIXES: Final[Spellings] = ("gen_ai.", "llm.", "traceloop.", "ai.")
"""Attribute keys and span names that PostHog's AI endpoint takes for AI spans."""

FLAG_EVENTS: Final = frozenset({"feature_flag.evaluation", "feature_flag"})
"""Names of the event that reports a flag's evaluation: the log event of today, the span event of before."""
EVENT_NAME: Final[Spellings] = ("otel.event.name", "event.name")
"""Where a log record has its event's name that its emitter could not put into the field."""
FLAG_KEY: Final = "feature_flag.key"
FLAG_VARIANT: Final[Spellings] = ("feature_flag.result.variant", "feature_flag.variant")
FLAG_VALUE: Final = "feature_flag.result.value"
FLAG_REASON: Final[Spellings] = ("feature_flag.result.reason", "feature_flag.evaluation.reason")
FLAG_PROVIDER: Final[Spellings] = ("feature_flag.provider.name", "feature_flag.provider_name")
FLAG_CONTEXT_ID: Final = "feature_flag.context.id"
"""The targeting key: whom the flag was evaluated for."""
FLAG_SET_ID: Final = "feature_flag.set.id"
FLAG_VERSION: Final = "feature_flag.version"
FLAG_ERROR_MESSAGE: Final[Spellings] = (
    "feature_flag.error.message", "feature_flag.evaluation.error.message", "error.message",
)  # fmt: skip
ERROR_TYPE: Final = "error.type"

SDK_LANGUAGE: Final = "telemetry.sdk.language"
HOST_ARCH: Final = "host.arch"
CONTAINER_ID: Final = "container.id"
KUBERNETES_PREFIX: Final = "k8s."
FAAS_NAME: Final = "faas.name"

DEPLOYMENT_RESOURCE_KEYS: Final[Spellings] = (
    "service.name",
    "service.version",
    "deployment.environment.name",
    "posthog.deployment_method",
    "posthog.timezone",
    "os.type",
    "host.arch",
    "process.runtime.name",
    "process.runtime.version",
    "telemetry.sdk.language",
)
"""Resource attributes that the deployment context is made from. The SDK edge adds those that it knows and that are
absent; at the gateway only what the emitter (or a Collector's resource processor) says is there."""

BAGGAGE: Final = "baggage"
"""The header of the W3C's propagator."""
BAGGAGE_MEMBERS: Final = ("uberctx-", "ot-baggage-")
"""What the headers of Jaeger's and of OpenTracing's propagators begin with: one for each member."""
