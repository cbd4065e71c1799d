"""Never twice, and never lost: whose events travel, what becomes of exceptions and flags, and the way back."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import posthog
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from posthog import AsyncPosthog, Posthog

from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.config.settings import FlagsConfig, Secret
from otel_posthog.instrumentation.posthog_sdk import PostHogSdkInstrumentor
from otel_posthog.sdk.log_processor import PostHogLogRecordProcessor
from otel_posthog.sdk.processor import PostHogSpanProcessor

pytestmark = pytest.mark.filterwarnings("ignore:`get_feature_flag` is deprecated:DeprecationWarning")

TOKEN = "phc_the_shop"
AT = datetime(2026, 11, 20, 11, 0, 0, 123456, tzinfo=timezone.utc)
METHODS = [
    (posthog.client.Client, name)
    for name in ("__init__", "_enqueue", "_submit_event", "capture", "capture_exception", "flush", "join", "shutdown")
] + [
    (posthog.async_client.AsyncClient, name)
    for name in (
        "__init__", "_prepare_event", "_ensure_workers_started", "_validate_transport_available", "_get_http_client",
        "_process_event", "capture_immediate", "flush", "join", "shutdown",
    )
]  # fmt: skip


@pytest.fixture(name="sdk")
def client_of_the_test(emulator: Any) -> Iterator[Any]:
    """Makes clients; the same key and host as ours by default."""
    made: list[Posthog] = []

    def make(key: str = TOKEN, **settings: Any) -> Posthog:
        made.append(Posthog(key, **{"host": emulator.url, **settings}))
        return made[-1]

    yield make
    for client in made:
        client.shutdown()


def names(emulator: Any) -> list[str]:
    """Names of the events that have arrived."""
    return sorted(event["event"] for event in emulator.events())


# --- whose events ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"key": "phc_another_project"}, "its key is that of another project than OTEL_EXPORTER_OTLP_TOKEN"),
        ({"host": "http://localhost"}, "its host is another one than OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"historical_migration": True}, "a historical import needs PostHog's own door"),
    ],
)
def test_left_alone(
    emulator: Any, bridge: Any, sdk: Any, settings: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients of another project or host, and historical imports, send for themselves; it is said once."""
    running = bridge()
    if "host" in settings:
        settings = {"host": emulator.url.replace("127.0.0.1", "localhost")}
    client = sdk(**settings)
    with caplog.at_level(logging.WARNING, logger="otel_posthog"):
        assert client.capture("one", distinct_id="ada")
        assert client.capture("two", distinct_id="ada")
    client.flush()
    assert (names(emulator), running.captured) == (["one", "two"], 0)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"otel-posthog: a client of the posthog package sends its events itself: {why}"]
    assert "phc_" not in said[0]


def test_what_we_do_not_take_the_sdk_sends(emulator: Any, bridge: Any, sdk: Any) -> None:
    """With our queue full, or the bridge stopped, events go the way that they went before."""
    running = bridge()
    worker = process.get().edge.worker  # type: ignore[union-attr]
    client = sdk()
    worker._capacity = 0
    assert client.capture("while full", distinct_id="ada")
    worker._capacity = 10
    assert client.capture("by us", distinct_id="ada")
    running.flush()
    assert running.captured == 1
    assert assembly.stop(60.0)
    assert client.capture("after the end", distinct_id="ada")
    client.flush()
    assert names(emulator) == ["after the end", "by us", "while full"]


def test_a_client_that_was_shut_down_takes_nothing(emulator: Any, bridge: Any, sdk: Any) -> None:
    """As without us: `None`, and no event."""
    running = bridge()
    client = sdk()
    client.shutdown()
    assert client.capture("late", distinct_id="ada") is None
    running.flush()
    assert names(emulator) == []


def test_sync_mode_has_delivered_when_it_returns(emulator: Any, bridge: Any, sdk: Any) -> None:
    """Who chose to wait for each event still does; `flush()` and `shutdown()` wait for our lane, too."""
    bridge()
    sdk(sync_mode=True).capture("at once", distinct_id="ada")
    assert names(emulator) == ["at once"]
    client = sdk()
    client.capture("flushed", distinct_id="ada")
    client.flush(60)
    assert names(emulator) == ["at once", "flushed"]
    client.capture("ended", distinct_id="ada")
    client.shutdown()
    assert names(emulator) == ["at once", "ended", "flushed"]


def test_ai_events_of_the_ai_lane_stay_with_the_sdk(emulator: Any, bridge: Any, sdk: Any) -> None:
    """`capture_ai` has an endpoint and limits of its own; an AI event of `capture` travels like any other."""
    running = bridge()
    client = sdk()
    client.capture_ai("$ai_generation", distinct_id="ada", properties={"$ai_model": "m"})
    client.capture("$ai_generation", distinct_id="ada", properties={"$ai_model": "m", "$ai_input": "x" * 100_000})
    client.flush()
    assert running.captured == 1
    sizes = [len(event["properties"].get("$ai_input", "")) for event in emulator.events()]
    assert max(sizes) == 100_000


def test_a_refused_id_is_no_person(emulator: Any, bridge: Any, sdk: Any) -> None:
    """PostHog makes no person of "anonymous"; the event is kept, personless, under an id that holds no harm."""
    running = bridge()
    uuid = sdk().capture("odd", distinct_id="anonymous", properties={"a": 1}, timestamp=AT)
    running.flush()
    [event] = emulator.events()
    assert (event["uuid"], event["event"], event["person_mode"], event["properties"]["a"]) == (
        uuid,
        "odd",
        "propertyless",
        1,
    )


# --- clients without a key -------------------------------------------------------------------------------------------


def test_without_a_key_in_direct_mode_nothing_changes(emulator: Any, bridge: Any, sdk: Any) -> None:
    """Such a client is switched off, as the SDK has it."""
    running = bridge()
    client = sdk("")
    assert client.capture("one", distinct_id="ada") is None
    assert (client.disabled, running.captured) == (True, 0)


def test_without_a_key_through_a_collector(emulator: Any, bridge: Any, sdk: Any, monkeypatch: Any) -> None:
    """The key is the gateway's affair: events travel, flags stay off; who switches the client off is heard."""
    running = bridge(mode="collector", endpoint="http://127.0.0.1:9")
    client = sdk("", send=True)
    seen: list[str] = []
    assert client.disabled
    assert client.get_feature_flag("new-checkout", "ada") is None
    assert client.capture("one", distinct_id="ada")
    client.before_send = lambda message: seen.append(message["event"])
    assert client.capture("dropped", distinct_id="ada") is None
    client.before_send = None
    client.disabled = True
    assert client.capture("off", distinct_id="ada") is None
    for name, value in (("project_api_key", ""), ("default_client", None), ("disabled", False), ("host", emulator.url)):
        monkeypatch.setattr(posthog, name, value)
    assert posthog.capture("of the package", distinct_id="ada")
    monkeypatch.setattr(posthog, "disabled", True)
    assert posthog.capture("off", distinct_id="ada") is None
    worker = process.get().edge.worker  # type: ignore[union-attr]
    worker._capacity = 0
    assert sdk("").capture("no room", distinct_id="ada") is None
    worker._capacity = 10
    assert worker.settle(60.0)
    assert (seen, running.captured, names(emulator)) == (["dropped"], 2, [])
    running.instrumentor.uninstrument()
    posthog.default_client.shutdown()
    assert type(sdk("").disabled) is bool


def test_two_projects_behind_one_collector(emulator: Any, bridge: Any, sdk: Any) -> None:
    """One process is one project's: that of the client which spoke first, or that of its flags."""
    running = bridge(mode="collector", endpoint="http://127.0.0.1:9")
    assert sdk("phc_first").capture("one", distinct_id="ada")
    second = sdk("phc_second")
    assert second.capture("two", distinct_id="ada")
    second.flush(2)
    assert process.get().edge.worker.settle(60.0)  # type: ignore[union-attr]
    assert (running.captured, names(emulator)) == (1, ["two"])
    flags = dataclasses.replace(running.runtime.settings.flags, token=Secret("phc_second"))
    assert isinstance(flags, FlagsConfig)
    assembly._process._runtime = dataclasses.replace(
        running.runtime, settings=dataclasses.replace(running.runtime.settings, flags=flags)
    )
    assert sdk("phc_second").capture("three", distinct_id="ada")
    assert process.get().edge.worker.settle(60.0)  # type: ignore[union-attr]
    assert running.captured == 2


# --- exceptions and flags --------------------------------------------------------------------------------------------


def log_error(logger: Any, error: Exception) -> None:
    """As OpenTelemetry's logging handler does: SDK 1.42 brought `exception=`."""
    if "exception" in inspect.signature(logger.emit).parameters:
        logger.emit(exception=error, severity_text="ERROR")
    else:
        described = {"exception.type": type(error).__name__, "exception.message": str(error)}
        logger.emit(attributes=described, severity_text="ERROR")


@pytest.mark.parametrize("given", [True, False], ids=["given", "found"])
@pytest.mark.parametrize("first", ["sdk", "ours"])
def test_one_exception_is_one_issue(emulator: Any, bridge: Any, sdk: Any, given: bool, first: str) -> None:
    """Told by spans, recorded by hand, logged, and captured through the SDK: one `$exception`."""
    running = bridge()
    tracers, loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(PostHogSpanProcessor(runtime=running.runtime))
    loggers.add_log_record_processor(PostHogLogRecordProcessor(runtime=running.runtime))
    tracer, client = tracers.get_tracer("t"), sdk()
    logger = loggers.get_logger("t")
    with pytest.raises(ValueError), tracer.start_as_current_span("request") as span:
        try:
            raise ValueError("cannot pay")
        except ValueError as error:
            if first == "ours":
                log_error(logger, error)
            client.capture_exception(error if given else None, distinct_id="ada")
            span.record_exception(error)
            log_error(logger, error)
            raise
    with tracer.start_as_current_span("quiet") as span:
        try:
            raise KeyError("handled")
        except KeyError as error:
            client.capture_exception(error if given else None, distinct_id="ada")
            span.record_exception(error)
    running.flush()
    client.flush()
    assert names(emulator) == ["$exception", "$exception"]


def test_an_exception_that_is_raised_again_counts_again(emulator: Any, bridge: Any, sdk: Any) -> None:
    """`raise NOT_CONFIGURED` for each request is a failure of each; captured twice in one handler it is one."""
    running, client = bridge(), sdk()
    not_configured = RuntimeError("not configured")

    def request() -> None:
        try:
            raise not_configured
        except RuntimeError:
            assert client.capture_exception(None, distinct_id="ada")
            assert client.capture_exception(None, distinct_id="ada") is None

    request()
    request()
    running.flush()
    assert names(emulator) == ["$exception", "$exception"]


FLAGS = {"flags": {"new-checkout": True, "button-colour": "green", "off": False}}


def test_flag_calls_arrive_once_and_unchanged(emulator: Any, bridge: Any, sdk: Any) -> None:
    """The SDK's own `$feature_flag_called`, and that of PostHog's OpenFeature provider, as it would send them."""
    PostHogProvider = pytest.importorskip("openfeature.contrib.provider.posthog").PostHogProvider
    from openfeature.evaluation_context import EvaluationContext

    emulator.flags = FLAGS
    found = []
    for with_us in (False, True):
        running = bridge() if with_us else None
        client = sdk()
        assert client.get_feature_flag("new-checkout", "ada") is True
        assert client.get_feature_flag("new-checkout", "ada") is True
        snapshot = client.evaluate_flags("grace", groups={"company": "acme"})
        assert snapshot.get_flag("button-colour") == "green"
        client.capture("with flags", distinct_id="grace", flags=snapshot, timestamp=AT)
        provider = PostHogProvider(client)
        details = provider.resolve_boolean_details("off", True, EvaluationContext(targeting_key="ada"))
        assert details.value is False
        client.flush()
        stored = []
        for event in emulator.events():
            properties = {name: value for name, value in event["properties"].items() if name not in _ANEW}
            stored.append((event["event"], event["distinct_id"], properties))
        found.append(sorted(stored, key=repr))
        emulator.reset()
        emulator.flags = FLAGS
        if running is not None:
            assert running.captured == 4
    assert found[1] == found[0]
    assert [name for name, _, _ in found[0]] == ["$feature_flag_called"] * 3 + ["with flags"]


_ANEW = ("$ignore_sent_at", "$feature_flag_request_id", "$feature_flag_evaluated_at", "$lib", "$lib_version")


# --- the asynchronous client -----------------------------------------------------------------------------------------


def test_the_asynchronous_client(emulator: Any, bridge: Any) -> None:
    """Queued and immediate events, exceptions, `before_send`: by us, with the uuids that were returned."""
    running = bridge()

    async def work() -> list[str | None]:
        client = AsyncPosthog(
            TOKEN,
            host=emulator.url,
            capture_mode="v1",  # without httpx
            before_send=lambda message: None if message["event"] == "no" else message,
        )
        returned = [
            client.capture("queued", distinct_id="ada", timestamp=AT),
            await client.capture_immediate("immediate", distinct_id="ada", timestamp=AT),
            await client.capture_immediate("no", distinct_id="ada"),
            client.capture_exception(ValueError("x"), distinct_id="ada"),
        ]
        assert "immediate" in names(emulator)
        await client.flush(60)
        await client.shutdown()
        return returned

    returned = asyncio.run(work())
    stored = {event["event"]: event["uuid"] for event in emulator.events()}
    assert stored == {"queued": returned[0], "immediate": returned[1], "$exception": returned[3]}
    assert (returned[2], running.captured) == (None, 3)


def test_the_asynchronous_client_without_a_key(emulator: Any, bridge: Any, monkeypatch: Any) -> None:
    """Behind a Collector its events travel like those of the other, and nothing else does; in direct mode none do."""
    running = bridge(mode="collector", endpoint="http://127.0.0.1:9")

    async def work() -> list[Any]:
        seen: list[str] = []

        async def before_send(message: dict[str, Any]) -> dict[str, Any] | None:
            await asyncio.sleep(0)
            seen.append(message["event"])
            return None if message["event"] == "no" else message

        # As it comes, for which an HTTP client would have to be installed.
        client = AsyncPosthog("", host=emulator.url, before_send=before_send)
        assert client.disabled
        early = client.capture("queued", distinct_id="ada", timestamp=AT)
        elsewhere = await asyncio.to_thread(client.capture, "of a thread", distinct_id="ada")
        immediate = await client.capture_immediate("immediate", distinct_id="ada")
        assert await client.capture_immediate("no", distinct_id="ada") is None
        assert client.group_identify("company", "acme", {"seats": 3}, distinct_id="ada")
        assert client.capture_exception(ValueError("x"), distinct_id="ada")
        assert (await client.evaluate_flags("ada")).keys == []
        await client.flush(60)
        client.disabled = True
        assert client.capture("off", distinct_id="ada") is None
        off = AsyncPosthog("", host=emulator.url, disabled=True)
        assert off.capture("off", distinct_id="ada") is None
        await off.shutdown()
        await client.shutdown()
        assert sorted(seen) == ["$exception", "$groupidentify", "immediate", "no", "of a thread", "queued"]
        assert None not in (early, elsewhere, immediate)
        return [early, elsewhere, immediate]

    assert len(set(asyncio.run(work()))) == 3
    worker = process.get().edge.worker  # type: ignore[union-attr]
    assert worker.settle(60.0)
    assert (running.captured, names(emulator)) == (5, [])


def test_the_asynchronous_client_without_a_key_in_direct_mode(emulator: Any, bridge: Any) -> None:
    """It is switched off, as the SDK has it."""
    running = bridge()

    async def work() -> None:
        client = AsyncPosthog("", host=emulator.url)
        assert client.disabled is True
        assert client.capture("one", distinct_id="ada") is None
        await client.shutdown()

    asyncio.run(work())
    assert (running.captured, names(emulator)) == (0, [])


# --- older versions --------------------------------------------------------------------------------------------------


def test_versions_with_one_method_for_everything(emulator: Any, bridge: Any, sdk: Any) -> None:
    """Where there is no last step of its own, as in 7.0, `before_send` is the last step."""
    running = bridge()
    running.instrumentor._submits = False
    client = sdk(before_send=lambda message: None if message["event"] == "no" else {**message, "event": "changed"})
    uuid = client.capture("one", distinct_id="ada", timestamp=AT)
    assert client.capture("no", distinct_id="ada") is None
    other = sdk("phc_another")
    assert other.capture("theirs", distinct_id="ada")
    other.flush()
    client.flush()
    assert {event["event"]: event["uuid"] for event in emulator.events() if event["event"] != "theirs"} == {
        "changed": uuid
    }
    assert (names(emulator), running.captured) == (["changed", "theirs"], 1)


def test_versions_that_are_too_old(
    emulator: Any, bridge: Any, sdk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Left alone, and said once."""
    monkeypatch.setattr(posthog.client, "VERSION", "6.9.3")
    with caplog.at_level(logging.WARNING, logger="otel_posthog"):
        running = bridge()
    client = sdk()
    client.capture("one", distinct_id="ada")
    client.flush()
    assert (names(emulator), running.captured) == (["one"], 0)
    assert [record.getMessage() for record in caplog.records] == [
        "otel-posthog: a client of the posthog package sends its events itself: it is older than 7.0"
    ]


# --- on and off ------------------------------------------------------------------------------------------------------


def test_the_gate_is_shut() -> None:
    """Nothing is wrapped."""
    before = [inspect.getattr_static(owner, name) for owner, name in METHODS]
    instrumentor = PostHogSdkInstrumentor()
    instrumentor.instrument()
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert [inspect.getattr_static(owner, name) for owner, name in METHODS] == before
    assert all(inspect.isfunction(one) for one in before)


def test_uninstrument_leaves_no_trace(emulator: Any, bridge: Any, sdk: Any) -> None:
    """The very same functions stand where they stood, and clients go on by themselves."""
    before = [inspect.getattr_static(owner, name) for owner, name in METHODS]
    running, client = bridge(), sdk()
    client.capture("by us", distinct_id="ada")
    running.flush()
    running.instrumentor.uninstrument()
    client.capture("by itself", distinct_id="ada")
    client.flush()
    assert [inspect.getattr_static(owner, name) for owner, name in METHODS] == before
    assert (names(emulator), running.captured) == (["by itself", "by us"], 1)
    running.instrumentor.instrument()
    client.capture("by us again", distinct_id="ada")
    client.flush()
    assert running.captured == 2
