"""Whom a flag is asked for where the work at hand is not the request's: scopes, and workers that outlive it."""

from __future__ import annotations

from contextvars import copy_context

import pytest
from opentelemetry.sdk.trace import TracerProvider

import otel_posthog
from otel_posthog import flags
from otel_posthog.context import Ambient, attach_properties, working
from otel_posthog.emulator import Emulator


@pytest.mark.parametrize("way", ["running", "local"])
def test_a_worker_asks_for_somebody_else(way: str, request: pytest.FixtureRequest, emulator: Emulator) -> None:
    """Neither the groups nor the super properties of the request that started the worker decide another's flags."""
    request.getfixturevalue(way)
    with working(Ambient(distinct_id="ada", groups={"company": "acme"})), attach_properties({"is_admin": True}):
        worker = copy_context()
        assert flags.enabled("acme-only", "bob") is True
        assert flags.enabled("admin-tools", "bob") is True

    assert worker.run(flags.enabled, "acme-only") is True  # it is still Ada's
    assert worker.run(flags.enabled, "admin-tools") is True
    assert worker.run(flags.enabled, "acme-only", "joe") is False
    assert worker.run(flags.enabled, "admin-tools", "joe") is False
    worker.run(otel_posthog.identify, "eve")
    assert worker.run(flags.enabled, "acme-only") is False
    assert worker.run(flags.enabled, "admin-tools") is False


def test_a_scope_of_nobody(running: None, emulator: Emulator) -> None:
    """In a scope nobody is known of the request around it: its flags are nobody's, and not that person's."""
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("shop").start_as_current_span("poll", attributes={"user.id": "ada"}):
        assert flags.enabled("new-dashboard") is True
        with otel_posthog.scope():
            assert flags.enabled("new-dashboard") is False
        with otel_posthog.scope(distinct_id="bob"):
            assert flags.enabled("new-dashboard") is True
    provider.shutdown()
    assert otel_posthog.flush(60.0) is True

    asked = [event["distinct_id"] for event in emulator.events(event="$feature_flag_called")]
    assert asked == ["ada", "bob"]
