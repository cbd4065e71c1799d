"""One `$exception` for one exception, whichever carrier brings it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.convert.text import without_credentials
from otel_posthog.model import (
    CaptureEvent,
    DropReason,
    LocalContext,
    LocalException,
    LocalFrame,
    Resource,
    Scope,
    Signal,
    SignalKind,
)
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import parse_text

NOW = 1_763_640_000_000_000_000
STACK = 'Traceback (most recent call last):\n  File "/app/a.py", line 3, in f\n    g()\nshop.E: x\n'
CONVERTER = Converter(ConvertConfig(), RuleSet())


def log(attributes: dict[str, Any], scope: str = "shop", **more: Any) -> Signal:
    """A log record in a trace."""
    return Signal(
        SignalKind.LOG, "", attributes, Resource({"telemetry.sdk.language": "python"}), Scope(scope),
        **{"trace_id": "a" * 32, "span_id": "b" * 16, "time_ns": NOW, "severity_number": 17, **more},
    )  # fmt: skip


def the_exception(signal: Signal) -> CaptureEvent:
    """The one `$exception` of a signal."""
    (event,) = CONVERTER.convert(signal).events
    assert event.event == "$exception"
    return event


TEXT = {"exception.type": "shop.E", "exception.message": "x", "exception.stacktrace": STACK}


def test_carriers_agree() -> None:
    """Span event and log record of one exception have the same uuid, although they spell the type differently."""
    record = log({**TEXT, "exception.type": "E"})
    span_event = replace(log(TEXT, time_ns=NOW + 5), kind=SignalKind.SPAN_EVENT, name="exception", span_id="c" * 16)

    assert the_exception(record).uuid == the_exception(span_event).uuid


def test_live_and_text_agree() -> None:
    """The live chain without an id of its object gives the uuid that a gateway makes from the text."""
    frame = LocalFrame("a.py", "/app/a.py", "f", 3)
    live = log({}, local=LocalContext(exception=(LocalException("E", "shop", "x", (frame,)),)))

    assert the_exception(live).uuid == the_exception(log(TEXT)).uuid


def test_objects_differ() -> None:
    """With the object known, two exceptions of one place are two, and one on two carriers is one."""
    one, other = (log(TEXT, local=LocalContext(exception_id=token)) for token in ("1", "2"))
    again = replace(one, span_id="d" * 16, time_ns=NOW + 9)

    assert the_exception(one).uuid == the_exception(again).uuid
    assert the_exception(one).uuid != the_exception(other).uuid


@pytest.mark.parametrize("change", [{"trace_id": "f" * 32}, {"trace_id": "", "span_id": ""}])
def test_traces_differ(change: dict[str, str]) -> None:
    """The same place in another trace, or in none, is another exception."""
    assert the_exception(log(TEXT)).uuid != the_exception(log(TEXT, **change)).uuid


def test_outside_of_traces() -> None:
    """Without a trace every log record is an exception of its own."""
    loose = {"trace_id": "", "span_id": ""}

    assert the_exception(log(TEXT, **loose)).uuid != the_exception(log(TEXT, **loose, time_ns=NOW + 1)).uuid


def test_without_stack() -> None:
    """Two log records without a stack are two, also in one span."""
    bare = {"exception.type": "E"}

    assert the_exception(log(bare)).uuid != the_exception(log(bare, time_ns=NOW + 1)).uuid


@pytest.mark.parametrize(
    ("attributes", "more", "found"),
    [
        ({"exception.type": "E"}, {}, True),
        ({"exception.message": "m"}, {}, True),
        ({}, {"name": "exception"}, True),
        ({}, {"name": "http.client.request.exception"}, True),
        ({}, {"local": LocalContext(exception=(LocalException("E", "", ""),))}, True),
        ({}, {}, False),
        ({"exception.type": ""}, {}, False),
        ({"error.type": "500"}, {}, False),
        ({"exception.type": "E"}, {"kind": SignalKind.SPAN}, False),
        ({"exception.type": "E"}, {"kind": SignalKind.SPAN_EVENT, "name": "retry"}, False),
    ],
)
def test_detection(attributes: dict[str, Any], more: dict[str, Any], found: bool) -> None:
    """A span is never an exception: its exception arrives as a span event."""
    decision = CONVERTER.convert(replace(log(attributes), **more))

    assert ([event.event for event in decision.events] == ["$exception"]) is found
    assert (decision.reason is DropReason.NOT_TAGGED) is not found


@pytest.mark.parametrize(
    ("scope", "severity", "level", "kind", "handled"),
    [
        ("shop", 17, "error", "logger", True),
        ("shop", 21, "error", "logger", True),
        ("shop", 13, "warning", "logger", True),
        ("shop", 9, "info", "logger", True),
        ("shop", 5, "debug", "logger", True),
        ("shop", 0, "error", "logger", True),
        ("flask.app", 17, "error", "middleware", False),
        ("opentelemetry.instrumentation.exceptions", 21, "fatal", "onuncaughtexception", False),
        ("opentelemetry.instrumentation.exceptions", 17, "error", "onuncaughtexception", False),
    ],
)
def test_level_and_mechanism(scope: str, severity: int, level: str, kind: str, handled: bool) -> None:
    """PostHog's defaults; fatal only where the process ends."""
    event = the_exception(log(TEXT, scope, severity_number=severity))
    mechanism = event.properties["$exception_list"][0]["mechanism"]

    assert (event.properties["$exception_level"], mechanism["type"], mechanism["handled"]) == (level, kind, handled)


def test_the_process_knows_better() -> None:
    """Mechanism and handled of the live context win."""
    event = the_exception(log(TEXT, local=LocalContext(mechanism="task", handled=False)))
    mechanism = event.properties["$exception_list"][0]["mechanism"]

    assert (mechanism["type"], mechanism["handled"]) == ("task", False)


def test_cut_off_inside_of_the_chain() -> None:
    """A text that ends in an inner exception hangs it on the one that the attributes name."""
    event = the_exception(log({**TEXT, "exception.type": "shop.Outer", "exception.message": "o"}))

    assert [(e["type"], e["value"], e["mechanism"].get("source")) for e in event.properties["$exception_list"]] == [
        ("Outer", "o", None),
        ("E", "x", "context"),
    ]


def test_person_updates_go_apart() -> None:
    """PostHog ignores `$set` on `$exception`: it becomes an event of its own."""
    decision = CONVERTER.convert(log({**TEXT, "user.id": "u1", "posthog.set.failed": True}))
    exception, update = decision.events

    assert ("$set" in exception.properties, update.event, update.properties["$set"]) == (
        False,
        "$set",
        {"failed": True},
    )


def test_rules_see_exceptions() -> None:
    """A rule may drop an exception, or add an event to it."""
    text = "version: 1\nrules: [{name: r, match: {kind: log, scope: %s}, %s}]"
    drop = Converter(ConvertConfig(), parse_text(text % ("shop", "drop: true")))
    add = Converter(ConvertConfig(), parse_text(text % ("shop", "capture: {event: trouble}")))

    assert drop.convert(log(TEXT)).reason is DropReason.RULE
    assert [event.event for event in add.convert(log(TEXT)).events] == ["trouble", "$exception"]


def test_switched_off() -> None:
    """Without exceptions in the configuration, a plain error log is a plain log."""
    off = Converter(ConvertConfig(exceptions=False), RuleSet())

    assert off.convert(log(TEXT)).reason is DropReason.NOT_TAGGED


@pytest.mark.parametrize(
    ("path", "config", "mine"),
    [
        ("/app/a.py", {}, True),
        ("/app/.venv/lib/python3.12/site-packages/flask/app.py", {}, False),
        ("/usr/lib/python3/dist-packages/x.py", {}, False),
        ("/usr/lib/python3.11/json/decoder.py", {}, False),
        ("C:\\Python311\\Lib\\json\\decoder.py", {}, False),
        ("<frozen importlib._bootstrap>", {}, False),
        ("<string>", {}, True),
        ("/app/.venv/lib/python3.12/site-packages/ours/app.py", {"in_app_include": ("ours",)}, True),
        ("/app/vendored/x.py", {"in_app_exclude": ("/app/vendored",)}, False),
    ],
)
def test_in_app(path: str, config: dict[str, Any], mine: bool) -> None:
    """Installed packages and the standard library are not the app's; prefixes overrule."""
    text = f'Traceback (most recent call last):\n  File "{path}", line 3, in f\n    g()\nE: x\n'
    (event,) = Converter(ConvertConfig(**config), RuleSet()).convert(log({**TEXT, "exception.stacktrace": text})).events

    assert [f["in_app"] for f in event.properties["$exception_list"][0]["stacktrace"]["frames"]] == [mine]


GO = (
    "goroutine 1 [running]:\nruntime/debug.Stack()\n\t/usr/local/go/src/runtime/debug/stack.go:24 +0x5e\n"
    "main.(*Shop).Pay(0xc000, 0x1)\n\t/app/pay.go:41 +0x1d\nmain.main()\n\t/app/main.go:12 +0x20\n"
)
# What `span.RecordError(err, trace.WithStackTrace(true))` writes.
GO_RECORDED = (
    "goroutine 1 [running]:\ngo.opentelemetry.io/otel/sdk/trace.recordStackTrace(...)\n"
    "\t/go/pkg/mod/go.opentelemetry.io/otel/sdk@v1.47.0/trace/span.go:527\n"
    "go.opentelemetry.io/otel/sdk/trace.(*recordingSpan).RecordError(0x20ff, {0xbf3a80, 0x20ff}, {0x20ff, 0x1, 0x1})\n"
    "\t/go/pkg/mod/go.opentelemetry.io/otel/sdk@v1.47.0/trace/span.go:509 +0x4de\n"
    "main.(*Shop).Pay(0xc000, 0x1)\n\t/app/pay.go:41 +0x1d\nmain.main()\n\t/app/main.go:12 +0x20\n"
)
NODE = (
    "Error: x\n    at Object.pay (/app/pay.js:41:7)\n    at async /app/node_modules/express/index.js:12:3\n"
    "    at node:internal/main:1:1"
)
RUBY = "/app/pay.rb:41:in `pay': x (RuntimeError)\n\tfrom /usr/lib/ruby/gems/3.2.0/gems/rack/rack.rb:12:in 'Rack#call'"
PHP = (
    "Error: x in /app/pay.php:41\nStack trace:\n#0 /app/index.php(12): Shop->pay()\n"
    "#1 /app/vendor/a/b.php(3): run()\n#2 {main}"
)
DOTNET = (
    "System.Exception: x\n   at Shop.Pay.Run(String card) in /app/Pay.cs:line 41\n   at System.Threading.Task.Run()\n"
)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("go", GO, [("main", "/app/main.go", 12, True), ("(*Shop).Pay", "/app/pay.go", 41, True)]),
        ("go", GO_RECORDED, [("main", "/app/main.go", 12, True), ("(*Shop).Pay", "/app/pay.go", 41, True)]),
        (
            "nodejs",
            NODE,
            [
                ("<anonymous>", "node:internal/main", 1, False),
                ("<anonymous>", "/app/node_modules/express/index.js", 12, False),
                ("Object.pay", "/app/pay.js", 41, True),
            ],
        ),
        (
            "ruby",
            RUBY,
            [("Rack#call", "/usr/lib/ruby/gems/3.2.0/gems/rack/rack.rb", 12, False), ("pay", "/app/pay.rb", 41, True)],
        ),
        ("php", PHP, [("run", "/app/vendor/a/b.php", 3, False), ("Shop->pay", "/app/index.php", 12, True)]),
        ("dotnet", DOTNET, [("Run", None, None, False), ("Run", "/app/Pay.cs", 41, True)]),
        ("rust", "   0: std::panic\n", None),
    ],
)
def test_other_languages(language: str, text: str, expected: object) -> None:
    """Frames of other languages are `custom`, outermost first; what is not recognised is kept as text."""
    signal = replace(
        log({**TEXT, "exception.stacktrace": text}), resource=Resource({"telemetry.sdk.language": language})
    )
    event = the_exception(signal)
    frames = event.properties["$exception_list"][0].get("stacktrace", {}).get("frames")

    assert (frames and [(f["function"], f.get("filename"), f.get("lineno"), f["in_app"]) for f in frames]) == expected
    assert all(f["platform"] == "custom" and f["lang"] and f["resolved"] for f in frames or ())
    assert ("exception_stacktrace" in event.properties) is (expected is None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot reach postgres://shop:hunter2@db:5432/shop", "cannot reach postgres://***@db:5432/shop"),
        ("amqp+ssl://u:p@ss@mq and redis://:pw@cache/0", "amqp+ssl://***@mq and redis://***@cache/0"),
        ("mail ann@example.com, see https://example.com/a:b", "mail ann@example.com, see https://example.com/a:b"),
        ("https://example.com/users/ann@example.com?x=a:b", "https://example.com/users/ann@example.com?x=a:b"),
        ("ssh://git@host/repo", "ssh://git@host/repo"),
        ("://" * 2_000 + "@", "://" * 2_000 + "@"),
    ],
)
def test_no_password_of_a_url_leaves(text: str, expected: str) -> None:
    """Drivers put the whole DSN into their messages; an address that is no credential stays."""
    assert without_credentials(text) == expected
