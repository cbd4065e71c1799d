"""OpenFeature: PostHog's own provider over our client, and any provider with OpenFeature's own hook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

api: Any = pytest.importorskip("openfeature.api")
evaluation_context: Any = pytest.importorskip("openfeature.evaluation_context")
memory: Any = pytest.importorskip("openfeature.provider.in_memory_provider")
telemetry: Any = pytest.importorskip("openfeature.contrib.hook.opentelemetry")

from opentelemetry.sdk.trace import TracerProvider  # noqa: E402

from otel_posthog import flags  # noqa: E402
from otel_posthog.api.control import flush  # noqa: E402
from otel_posthog.emulator import Emulator  # noqa: E402
from otel_posthog.errors import ConfigError  # noqa: E402
from otel_posthog.sdk.processor import PostHogSpanProcessor  # noqa: E402
from tests.unit.flags.conftest import Calls  # noqa: E402


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """OpenFeature's provider is the process's."""
    yield
    api.clear_providers()
    api.clear_hooks()


@pytest.fixture
def traced(running: None) -> Iterator[Any]:
    """A tracer whose spans our processor sees, and OpenFeature's hook, which writes on them."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(PostHogSpanProcessor(closed=lambda _: None))
    api.add_hooks([telemetry.TracingHook()])
    yield provider.get_tracer("shop")
    provider.shutdown()


def ask(key: str, person: str = "ada") -> bool:
    """One question by OpenFeature's client."""
    context = evaluation_context.EvaluationContext(targeting_key=person)
    return api.get_client().get_boolean_value(key, False, context)


def test_posthogs_provider_is_counted_once(traced: Any, emulator: Emulator, calls: Calls) -> None:
    """It evaluates by our client, whose events take our way; what the hook says of it is known already."""
    api.set_provider(flags.openfeature_provider())

    with traced.start_as_current_span("GET /"):
        assert [ask("new-dashboard") for _ in range(3)] == [True] * 3
        assert ask("beta-features") is False

    told = calls()
    assert [(event["distinct_id"], event["properties"]["$feature_flag"]) for event in told] == [
        ("ada", "new-dashboard"),
        ("ada", "beta-features"),
    ]
    assert {event["properties"]["$lib"] for event in told} == {"otel-posthog"}
    assert told[0]["properties"]["$feature_flag_id"] > 0


@pytest.mark.parametrize("through_us", [True, False], ids=["through us", "by itself"])
def test_posthogs_provider_over_a_client_of_the_app(
    traced: Any, emulator: Emulator, calls: Calls, through_us: bool
) -> None:
    """Whoever carries what the app's own client reports, it is once, and the hook adds nothing."""
    from openfeature.contrib.provider.posthog import PostHogProvider
    from posthog import Posthog

    from otel_posthog.instrumentation.posthog_sdk import PostHogSdkInstrumentor

    instrumentor = PostHogSdkInstrumentor()
    if through_us:
        instrumentor.instrument()
    client = Posthog("phc_test", host=emulator.url, feature_flags_request_timeout_seconds=30)
    try:
        api.set_provider(PostHogProvider(client))
        with traced.start_as_current_span("GET /"):
            assert [ask("new-dashboard") for _ in range(3)] == [True] * 3
            assert ask("beta-features", "grace") is False
        client.flush()
        told = calls()
    finally:
        client.shutdown()
        instrumentor.uninstrument()

    assert sorted((event["distinct_id"], event["properties"]["$feature_flag"]) for event in told) == [
        ("ada", "new-dashboard"),
        ("grace", "beta-features"),
    ]
    assert {event["properties"]["$lib"] for event in told} == {"otel-posthog" if through_us else "posthog-python"}


def test_any_other_provider_by_the_hook(traced: Any, calls: Calls) -> None:
    """Each answer once, for the targeting key, which makes no person."""
    flag = memory.InMemoryFlag("on", {"on": True, "off": False})
    api.set_provider(memory.InMemoryProvider({"cart": flag}))

    with traced.start_as_current_span("GET /"):
        assert [ask("cart") for _ in range(3)] == [True] * 3
        assert ask("cart", "grace") is True
        assert ask("no-such-flag") is False

    told = calls()
    said = [
        (
            event["distinct_id"],
            event["properties"]["$feature_flag"],
            event["properties"].get("$feature_flag_response"),
            event["properties"].get("$feature_flag_error"),
        )
        for event in told
    ]
    assert said == [
        ("ada", "cart", True, None),
        ("grace", "cart", True, None),
        ("ada", "no-such-flag", None, "flag_missing"),
    ]
    assert told[0]["properties"]["feature_flag_provider"] == "In-Memory Provider"
    assert told[0]["properties"]["$process_person_profile"] is False


def test_off() -> None:
    """A provider without anybody to ask is a mistake of the set-up, and says so."""
    with pytest.raises(ConfigError, match="feature flags are off"):
        flags.openfeature_provider()


def test_without_the_package(running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way out."""
    import sys

    monkeypatch.setitem(sys.modules, "openfeature.contrib.provider.posthog", None)
    with pytest.raises(ConfigError, match="pip install openfeature-provider-posthog"):
        flags.openfeature_provider()
    assert flush(30)
