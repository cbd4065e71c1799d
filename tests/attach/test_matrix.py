"""The attach matrix: distributions x frameworks x semantic conventions x lanes, whole events at the other end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from dirty_equals import IsInt, IsList, IsOneOf, IsPartialDict, IsPositive, IsStr

from tests.attach.processes import TOKEN, Environment, Launch, variables
from tests.attach.receiver import Event, Receiver

# PostHog takes a session only with a UUIDv7 that is younger than a day.
_MS = int(time.time() * 1000)
UUID7 = f"{_MS >> 16:08x}-{_MS & 0xFFFF:04x}-7c3e-8f00-0123456789ab"
BAGGAGE = {"baggage": f"user.id=ada,session.id={UUID7}", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
DEFAULT, OPTED_IN = {}, {"OTEL_SEMCONV_STABILITY_OPT_IN": "http"}

# Newest and floor: everything with everything. The other distributions: each framework, convention and lane with each
# other at least once.
CELLS = [
    (name, framework, convention, mode)
    for name in ("stock", "floor")
    for framework in ("flask", "django", "fastapi")
    for convention in ("default", "http")
    for mode in ("direct", "collector")
] + [
    ("edot", "flask", "default", "direct"),
    ("edot", "django", "http", "collector"),
    ("edot", "fastapi", "default", "collector"),
    ("adot", "flask", "http", "collector"),
    ("adot", "django", "default", "direct"),
    ("adot", "fastapi", "http", "direct"),
]


def serve(
    where: Environment, framework: str, launch: Launch, env: dict[str, str], paths: list[str], *, by: str = "instrument"
) -> str:
    """Runs a shop for one request to each path, to its end; gives what it printed."""
    if framework == "django":
        env["DJANGO_SETTINGS_MODULE"] = "shop_django"
    words = ["python", "serve.py", framework, "{fd}", str(len(paths))]
    process = launch(where.instrumented(*words) if by == "instrument" else where.run(*words), env, serve=True)
    statuses = [process.get(path, BAGGAGE) for path in paths]
    assert process.end() == 0, process.output
    assert statuses == [500 if path == "/fail" else 200 for path in paths], process.output
    return process.output


def one(events: list[Event], name: str) -> Event:
    """The only event of that name."""
    found = [event for event in events if event.event == name]
    assert len(found) == 1, [event.event for event in events]
    return found[0]


def check_order(receiver: Receiver) -> None:
    """The order, whole where it matters for money: who, what, which person, which group; and where it came from."""
    order = one(receiver.events(), "order paid")
    assert order.distinct_id == "ada"
    # Today, or a minute ago: midnight may have passed since.
    assert order.timestamp[:10] in {time.strftime("%Y-%m-%d", time.gmtime(time.time() - ago)) for ago in (0, 60)}
    properties = {key: value for key, value in order.properties.items() if key not in {"$lib", "$lib_version"}}
    assert properties == {
        "total": 12.5,
        "$set": {"plan": "pro"},
        "$groups": {"company": "acme"},
        "$session_id": UUID7,
        "$trace_id": IsStr(regex="[0-9a-f]{32}"),
        "$span_id": IsStr(regex="[0-9a-f]{16}"),
        "trace_sampled": True,
        "$current_url": IsStr(regex=r"http://127\.0\.0\.1(:[0-9]+)?/buy"),
        "$host": IsStr(regex=r"127\.0\.0\.1(:[0-9]+)?"),
        "$pathname": "/buy",
        "$request_method": "GET",
        "http_route": IsOneOf("/buy", "buy"),
        "http_status_code": 200,
        "duration_ms": IsPositive,
        "$raw_user_agent": BAGGAGE["User-Agent"],
        "$browser": "Firefox",
        "$browser_version": "140.0",
        "$os": "Linux",
        "$device_type": "Desktop",
        "$geoip_disable": True,
        "$is_server": True,
        "service_name": "shop",
        "environment": "production",
        "deployment_method": IsStr,
        "platform": IsStr,
        "machine": IsStr,
        "python_version": IsStr(regex=r"3\.[0-9]+\.[0-9]+"),
        "timezone": IsStr,
    }
    span = next(span for span in receiver.spans() if span["span_id"] == order.properties["$span_id"])
    assert span["attributes"] == IsPartialDict({"posthogDistinctId": "ada", "sessionId": UUID7})
    assert span["resource"] == IsPartialDict({"service.name": "shop"})


def check_failure(receiver: Receiver) -> None:
    """One `$exception`, though nested spans, the server span and the framework's log all carry it."""
    failure = one(receiver.events(), "$exception")
    assert failure.distinct_id == "ada"
    (item,) = failure.properties["$exception_list"]
    assert (item["type"], item["value"], item["mechanism"]["handled"]) == ("ValueError", "no stock left", False)
    frame = item["stacktrace"]["frames"][-1]
    assert (frame["function"], frame["in_app"], frame["lineno"]) == ("fail", True, IsInt(gt=0))
    assert "raise ValueError" in frame["context_line"]


def check_lane(receiver: Receiver, mode: str) -> None:
    """Everything went where it belongs, with the token, and nowhere else."""
    product, traces = ("/i/v1/analytics/events", "/i/v1/traces") if mode == "direct" else ("/v1/logs", "/v1/traces")
    assert receiver.arrivals(product) != [] and receiver.arrivals(traces) != []
    assert {arrival.headers.get("authorization") for arrival in receiver.arrivals()} == {f"Bearer {TOKEN}"}
    assert receiver.unexpected == []


@pytest.mark.parametrize(("name", "framework", "convention", "mode"), CELLS)
def test_cell(
    name: str,
    framework: str,
    convention: str,
    mode: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    receiver: Receiver,
) -> None:
    """An unmodified app: an order, a failure and a quiet request become two events, a person, a group; nothing more."""
    where = environment(name)
    env = variables(receiver, mode, where, **(OPTED_IN if convention == "http" else DEFAULT))
    serve(where, framework, launch, env, ["/buy", "/fail", "/"])
    assert sorted(event.event for event in receiver.events()) == IsList("$exception", "order paid")
    check_order(receiver)
    check_failure(receiver)
    check_lane(receiver, mode)


@pytest.mark.parametrize("mode", ["direct", "collector"])
@pytest.mark.parametrize("name", ["stock", "floor", "edot"])
def test_an_annotated_log_line_is_an_event_and_a_standard_log(
    name: str, mode: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """`logging` with `extra=` is enough; the same line reaches the standard logs, linked to the person of the trace."""
    where = environment(name)
    serve(where, "flask", launch, variables(receiver, mode, where), ["/note"])
    note = one(receiver.events(), "newsletter joined")
    assert note.distinct_id == "grace"
    lines = [record for record in receiver.logs() if record["body"] == "newsletter"]
    assert [line["attributes"]["posthogDistinctId"] for line in lines] == ["grace"]


def test_amazon_without_a_logger_provider_still_has_spans(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """ADOT sets no logger provider by default: spans work, the log line is nobody's, nothing breaks."""
    where = environment("adot")
    serve(where, "flask", launch, variables(receiver, "direct", where), ["/buy", "/note"])
    assert [event.event for event in receiver.events()] == ["order paid"]


@pytest.mark.parametrize("mode", ["direct", "collector"])
@pytest.mark.parametrize("by", ["run", "instrument"])
def test_a_declarative_file(
    by: str,
    mode: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    receiver: Receiver,
    tmp_path: Any,
) -> None:
    """`OTEL_CONFIG_FILE` decides about the exporters, the two variables about the bridge."""
    where = environment("declarative")
    base = f"{receiver.url}/i" if mode == "direct" else receiver.url
    file = tmp_path / "otel.yaml"
    file.write_text(DECLARATIVE.replace("BASE", base).replace("TOKEN", TOKEN))
    env = variables(receiver, mode, where, OTEL_CONFIG_FILE=str(file))
    serve(where, "flask", launch, env, ["/buy", "/fail"], by=by)
    assert sorted(event.event for event in receiver.events()) == ["$exception", "order paid"]
    check_order(receiver)
    check_failure(receiver)
    check_lane(receiver, mode)


DECLARATIVE = """
file_format: "1.0"
resource:
  attributes: [{name: service.name, value: shop}]
propagator: {composite_list: "tracecontext,baggage"}
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_http: {endpoint: "BASE/v1/traces", headers: [{name: authorization, value: "Bearer TOKEN"}]}
logger_provider:
  processors:
    - batch:
        exporter:
          otlp_http: {endpoint: "BASE/v1/logs", headers: [{name: authorization, value: "Bearer TOKEN"}]}
"""


@pytest.mark.parametrize("configured", ["once", "twice"])
def test_logfire_configured_in_code(
    configured: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Logfire's proxies come late, and swap what is inside them at every `configure`: we stay on board."""
    where = environment("logfire")
    env = variables(receiver, "direct", where, LOGFIRE_CONFIGURED=configured)
    process = launch(where.instrumented("python", "with_logfire.py"), env)
    assert process.end() == 0, process.output
    assert sorted(event.event for event in receiver.events()) == ["log", "order 1"], process.output
    assert {event.distinct_id for event in receiver.events()} == {"ada"}


def test_an_exporter_by_name_is_not_doubled(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """`OTEL_TRACES_EXPORTER=otlp,posthog`: the exporter is the pipeline, each order is sent once."""
    where = environment("stock")
    env = variables(receiver, "direct", where, OTEL_TRACES_EXPORTER="otlp,posthog")
    serve(where, "flask", launch, env, ["/buy"])
    assert [event.event for event in receiver.events()] == ["order paid"]


def test_initialised_by_an_operator_it_says_which_two_lines_are_missing(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """No wrapper of ours or OpenTelemetry's ran: events arrive, live exporters are left alone, one WARNING helps."""
    where = environment("stock")
    # Without a wrapper the distribution chooses gRPC, which nobody answers here: let it give up soon.
    env = variables(receiver, "direct", where, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    process = launch([where.python, "by_operator.py"], env)
    assert process.end() == 0, process.output
    assert [event.event for event in receiver.events()] == ["order"]
    assert process.output.count("OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20<the value of") == 1
    assert process.output.count("\n  OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\n") == 1
    assert TOKEN not in process.output


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_a_bridge_that_fails_inside_never_reaches_the_app(
    framework: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """With every conversion and every look at a span raising, the app answers as before and ends as before."""
    where = environment("stock")
    env = variables(receiver, "direct", where, SABOTAGE="yes")
    output = serve(where, framework, launch, env, ["/buy", "/fail", "/note", "/"])
    assert receiver.events() == []
    assert "internal error" in output
    assert len([span for span in receiver.spans() if span["kind"] == 2]) == 4
