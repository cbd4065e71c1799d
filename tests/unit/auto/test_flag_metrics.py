"""Questions about flags are in the books of a running service."""

from __future__ import annotations

import pytest

from otel_posthog import assembly, auto, flags
from otel_posthog.api.process import process
from otel_posthog.flags.process import client


def test_questions_about_flags_are_in_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """By who answered, or why nobody did."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9/i")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
    monkeypatch.setenv("OTEL_POSTHOG_FLAGS", "false")
    process.forget()
    client.forget()
    monkeypatch.setattr(auto._process, "hook", object())  # as if attached
    try:
        assert flags.enabled("new-dashboard", "ada", default=True) is True
        with flags.override("new-dashboard"):
            flags.enabled("new-dashboard", "ada")

        assert auto.metrics()["otel_posthog.flags.questions"] == {"override": 1, "off": 1}
    finally:
        client.forget()
        assembly.stop(5)
        process.forget()
