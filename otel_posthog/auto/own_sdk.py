"""An SDK of our own making, for `otel-posthog run` in an environment without any distribution."""

from __future__ import annotations

import os

RUN_VARIABLE = "OTEL_POSTHOG_RUN"
"""Set by `otel-posthog run`, for the program and its children: the hook may set up the SDK."""


def wanted() -> bool:
    """Whether this process was started by `otel-posthog run` and may be given an SDK."""
    return os.environ.get(RUN_VARIABLE, "") == "true"


def configure() -> None:
    """Sets up the SDK as the stock distribution would, with HTTP instead of gRPC (only HTTP is in our dependencies).

    `OTEL_CONFIG_FILE` and all standard variables count, because it is the SDK's own configurator that runs.

    Raises:
        Exception: Whatever the SDK's configurator raises.
    """
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator

    for name in ("OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER"):
        os.environ.setdefault(name, "otlp")
    os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")

    class Configurator(_OTelSDKConfigurator):
        """The SDK asks for a subclass."""

    Configurator().configure()  # pyright: ignore[reportUnknownMemberType] - untyped upstream
