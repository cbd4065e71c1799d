"""Whatever the signal, conversion does not raise, and what comes out can be sent."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.model import (
    CaptureEvent,
    Decision,
    LocalContext,
    LocalException,
    LocalFrame,
    Resource,
    Scope,
    Signal,
    SignalKind,
)
from otel_posthog.rules import Match, RuleSet
from otel_posthog.semconv import otel, posthog

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Unprintable:
    """An object whose text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "Unprintable()"


class UnreadableMap(dict[str, object]):
    """A map that raises while it is read."""

    def items(self) -> Any:
        raise RuntimeError("no items")


def _cyclic() -> list[object]:
    cycle: list[object] = [1]
    cycle += [cycle, cycle, cycle]
    return cycle


ANY_TEXT = st.text(st.characters(), max_size=40)  # lone surrogates and NUL included
ODD = st.sampled_from(
    [
        "", " ", "\x00", "\ud800", "\ud83d\ude00", "None", "anonymous", "true", "false", "0", "1", "x" * 300, "é" * 150,
        10**400, -(10**30), 2**63, -(2**63), float("nan"), float("inf"), -0.0, 1e308, b"\xff\x00", b"", True, False,
        None,
        "018f3f5a-7b1c-7def-8abc-0123456789ab", "not a uuid", "https://u:p@h:99999/p?q#f", "http://[::1", '{"a": 1}',
        "[]",
        "{", '{"a": NaN, "$set": {"x": 1}}', "[" * 5000,
    ]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT, st.binary(max_size=20), ODD, st.just(Unprintable())
)
VALUES = st.one_of(
    SCALARS,
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(ANY_TEXT, st.integers(), st.none()), inner, max_size=4),
        ),
        max_leaves=8,
    ),
    st.builds(_cyclic),
    st.builds(lambda: UnreadableMap(a=1)),
    st.sets(st.integers(), max_size=3),
    st.builds(object),
)
TAG_KEYS = st.sampled_from(
    [
        posthog.EVENT, posthog.DISTINCT_ID, posthog.UUID, posthog.CARRIER, posthog.IGNORE, posthog.ON, posthog.TIER,
        posthog.UNSET, posthog.ALIAS, posthog.ANON_DISTINCT_ID, posthog.SESSION_ID, posthog.WINDOW_ID,
        posthog.PROCESS_PERSON_PROFILE, posthog.PROPERTIES_JSON, posthog.TRACE_SAMPLED, posthog.PREFIX,
        posthog.PROPERTIES, posthog.PROPERTIES + "a", posthog.PROPERTIES + "$set", posthog.PROPERTIES + "$groups",
        posthog.PROPERTIES + "$exception_list", posthog.PROPERTIES + "$ip", posthog.PROPERTIES + "otel_posthog_cut",
        posthog.PROPERTIES + "x" * 400, posthog.SET + "a", posthog.SET, posthog.SET_ONCE + "b",
        posthog.GROUPS + "company",
        posthog.GROUPS + "team", posthog.GROUP_SET + "company.name", posthog.GROUP_SET + "company", posthog.GROUP_SET,
    ]
)  # fmt: skip
OTHER_KEYS = st.sampled_from(
    [
        posthog.POSTHOG_DISTINCT_ID, posthog.POSTHOG_SESSION_ID, otel.USER_ID, otel.ENDUSER_ID, otel.ENDUSER_PSEUDO_ID,
        otel.SESSION_ID, *otel.HEADER_DISTINCT_ID, *otel.HEADER_SESSION_ID, otel.EXCEPTION_TYPE, otel.EXCEPTION_MESSAGE,
        otel.EXCEPTION_STACKTRACE, *otel.HTTP_METHOD, *otel.HTTP_STATUS, *otel.HTTP_ROUTE, *otel.URL_FULL,
        *otel.URL_PATH,
        *otel.URL_QUERY, *otel.HTTP_TARGET, *otel.URL_SCHEME, *otel.SERVER_ADDRESS, *otel.SERVER_PORT,
        *otel.CLIENT_ADDRESS,
        *otel.USER_AGENT, *otel.REFERRER, "gen_ai.system", *otel.DEPLOYMENT_RESOURCE_KEYS, *otel.ENVIRONMENT,
    ]
)  # fmt: skip
STACKS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "Traceback (most recent call last):",
                "  + Exception Group Traceback (most recent call last):",
                '  File "/app/a.py", line 3, in f',
                '  |   File "/app/a.py", line 3, in f',
                "    raise ValueError()",
                "    ^^^^^^^",
                "ValueError: x",
                "  | ExceptionGroup: two (2 sub-exceptions)",
                "  +-+---------------- 1 ----------------",
                "    +---------------- 2 ----------------",
                "    | KeyError: 'a'",
                "    +------------------------------------",
                "The above exception was the direct cause of the following exception:",
                "During handling of the above exception, another exception occurred:",
                "  [Previous line repeated 3 more times]",
                '"""',
                "",
                "\tat com.foo.Bar.baz(Bar.java:12)",
                "Caused by: a.b.C: d",
                "main.f(0x1)",
                "\t/app/main.go:12 +0x1d",
                "    at f (/app/a.js:1:2)",
                "app.rb:3:in `f'",
                "#0 /app/a.php(12): f()",
                "   at A.B.C(String d) in /a.cs:line 4",
            ]
        ),
        ANY_TEXT,
    ),
    max_size=14,
).map("\n".join)
ATTRIBUTES = st.tuples(
    st.dictionaries(st.one_of(TAG_KEYS, OTHER_KEYS, ANY_TEXT, st.just(7)), VALUES, max_size=8),
    st.dictionaries(
        st.sampled_from([posthog.EVENT, posthog.DISTINCT_ID, otel.EXCEPTION_TYPE, otel.USER_ID]), ANY_TEXT, max_size=2
    ),
    st.one_of(st.just({}), st.fixed_dictionaries({otel.EXCEPTION_STACKTRACE: STACKS})),
).map(lambda parts: {**parts[0], **parts[1], **parts[2]})
TIMES = st.one_of(st.sampled_from([0, 1, 1_700_000_000_000_000_000]), st.integers(-(2**70), 2**70))
LANGUAGES = st.sampled_from(["python", "java", "go", "nodejs", "ruby", "php", "dotnet", "rust", ""])
RESOURCES = st.builds(
    lambda attributes, language: Resource({**attributes, otel.SDK_LANGUAGE: language}), ATTRIBUTES, LANGUAGES
)
HEX32 = st.sampled_from(["", "a" * 32, "0123456789abcdef" * 2])
HEX16 = st.sampled_from(["", "b" * 16])
FRAMES = st.builds(LocalFrame, ANY_TEXT, ANY_TEXT, ANY_TEXT, st.integers(0, 10**6), ANY_TEXT, st.none() | ANY_TEXT)
LOCALS = st.builds(
    LocalContext,
    exception=st.lists(
        st.builds(
            LocalException,
            ANY_TEXT,
            ANY_TEXT,
            ANY_TEXT,
            st.lists(FRAMES, max_size=3).map(tuple),
            st.sampled_from(["", "cause", "context", "member"]),
            st.integers(-2, 60),
            st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    exception_id=ANY_TEXT,
    sampled=st.none() | st.booleans(),
    distinct_id=ANY_TEXT,
    handled=st.none() | st.booleans(),
    mechanism=st.sampled_from(["", "middleware"]),
)


def _signals(kind: SignalKind, span: st.SearchStrategy[Signal | None]) -> st.SearchStrategy[Signal]:
    return st.builds(
        Signal,
        kind=st.just(kind),
        name=st.sampled_from(["exception", "GET /", "", "a.exception", "gen_ai.chat"]) | ANY_TEXT,
        attributes=ATTRIBUTES,
        resource=RESOURCES,
        scope=st.builds(
            Scope, st.sampled_from(["", "flask.app", "opentelemetry.instrumentation.exceptions"]) | ANY_TEXT, ANY_TEXT
        ),
        trace_id=HEX32,
        span_id=HEX16,
        span_kind=st.sampled_from(["", "server", "client", "internal"]),
        start_time_ns=TIMES,
        time_ns=TIMES,
        observed_time_ns=TIMES,
        status_code=st.sampled_from(["", "error"]),
        severity_number=st.integers(-1, 30),
        severity_text=ANY_TEXT,
        body=VALUES,
        index=st.integers(0, 3),
        span=span,
        local=st.none() | LOCALS,
    )


SPANS = _signals(SignalKind.SPAN, st.none())
SIGNALS = st.one_of(SPANS, _signals(SignalKind.LOG, st.none()), _signals(SignalKind.SPAN_EVENT, st.none() | SPANS))
MATCHES = st.builds(
    Match,
    rule=ANY_TEXT,
    on=st.sampled_from(["end", "start"]),
    event=ANY_TEXT,
    properties=st.dictionaries(ANY_TEXT, VALUES, max_size=3),
    distinct_id=ANY_TEXT,
    set=st.dictionaries(ANY_TEXT, VALUES, max_size=2),
    set_once=st.dictionaries(ANY_TEXT, VALUES, max_size=2),
    unset=st.lists(ANY_TEXT, max_size=2).map(tuple),
    groups=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3),
    group_set=st.dictionaries(ANY_TEXT, st.dictionaries(ANY_TEXT, VALUES, max_size=2), max_size=2),
    alias=ANY_TEXT,
    anon_distinct_id=ANY_TEXT,
)


class OneRule(RuleSet):
    """Says the same about every signal."""

    def __init__(self, match: Match | None) -> None:
        self._match = match

    def match(self, signal: Signal) -> Match | None:
        """The one match."""
        return self._match

    def __bool__(self) -> bool:
        return self._match is not None


def assert_sendable(event: CaptureEvent, limit: int) -> None:
    """Everything that PostHog's capture API asks of one event."""
    assert 1 <= len(event.event.encode()) <= 200
    assert 1 <= len(event.distinct_id.encode()) <= 200
    assert event.distinct_id.strip().lower() not in posthog.ILLEGAL_DISTINCT_IDS
    assert UUID.fullmatch(event.uuid)
    assert 0 <= event.timestamp_ns < 1 << 63
    text = json.dumps(event.properties, allow_nan=False, ensure_ascii=False)
    assert len(text.encode()) <= limit
    assert "\x00" not in text and "\\u0000" not in text
    assert json.loads(text) == event.properties
    if event.event == "$exception":
        assert event.properties["$exception_list"]
    assert len(event.properties.get("$groups", {})) <= 5


def assert_honest(decision: Decision) -> None:
    """A decision has events or a reason, never both, and no uuid twice."""
    assert bool(decision.events) == (decision.reason is None)
    assert len({event.uuid for event in decision.events}) == len(decision.events)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(SIGNALS, st.none() | MATCHES, st.booleans(), st.sampled_from([900 * 1024, 40_000]))
def test_any_signal(signal: Signal, match: Match | None, flag: bool, limit: int) -> None:
    """No signal makes conversion raise; its events can be sent, and converting again gives the same."""
    config = ConvertConfig(keep_query=flag, client_ip=flag, honour_carrier=flag, max_event_bytes=limit)
    converter = Converter(config, OneRule(match))

    decision = converter.convert(signal)

    assert_honest(decision)
    for event in decision.events:
        assert_sendable(event, limit)
    assert converter.convert(signal) == decision
    assert Converter(config, OneRule(match)).convert(signal) == decision
    assert len(converter.identify(signal).encode()) <= 200
