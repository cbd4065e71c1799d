"""Strategies for attributes: every type, and the vocabulary that we read (DESIGN §3), good and odd."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common._internal import _encode_value

Attributes = dict[str, Any]


def _encoder_carries_null() -> bool:
    try:
        _encode_value([None])
    except Exception:
        return False
    return True


# Text that OTLP can carry: any Unicode, NUL and astral planes included, but no lone surrogates.
texts = st.one_of(
    st.sampled_from(["", "a", "pro", "ünï ✓ \U0001f600", "\x00", "line\nline", "1", "true", "NaN", "posthog.event"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
numbers = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]),
    st.integers(-(2**63), 2**63 - 1),
)
floats = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, float("nan"), float("inf"), float("-inf")]), st.floats()
)
# The oldest encoders drop an attribute for a null within it, and their SDKs make null of bytes that are no UTF-8.
_newest = _encoder_carries_null()
_nulls = st.none() if _newest else st.nothing()
_bytes = st.binary(max_size=8) if _newest else texts.map(str.encode)
scalars = st.one_of(_nulls, st.booleans(), numbers, floats, texts, _bytes)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
no_bytes = st.recursive(
    st.one_of(st.booleans(), numbers, floats, texts),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
"""For resources and scopes: the SDK hashes those by their JSON, which has no bytes."""

surrogates = st.sampled_from(["\ud800", "a\udfffb"])
huge = st.sampled_from([2**63, -(2**63) - 1, 10**40])
beyond_otlp = st.recursive(
    st.one_of(st.none(), scalars, surrogates, huge),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)
"""Also what the SDK lets through and the official encoder cannot carry."""

people = st.sampled_from(["ada", "grace@example.com", "42", " ", "anonymous", "NULL", "u" * 250, "ü" * 150, "0"])
uuid7 = "0190f3a2-7b5c-7def-8abc-0123456789ab"
vocabulary: dict[str, st.SearchStrategy[Any]] = {
    "posthog.event": st.one_of(
        st.sampled_from(["order paid", "signed up", "", " ", "x" * 220, "$identify", "$set"]),
        st.lists(st.sampled_from(["order paid", "seen", ""]), max_size=3),
    ),
    "posthog.distinct_id": people,
    "posthogDistinctId": people,
    "user.id": people,
    "enduser.id": people,
    "enduser.pseudo.id": people,
    "http.request.header.x_posthog_distinct_id": people.map(lambda value: [value]),
    "http.request.header.x_posthog_session_id": st.just([uuid7]),
    "posthog.properties.total": st.one_of(numbers, floats),
    "posthog.properties.plan": texts,
    "posthog.properties.$groups": st.just({"company": "acme"}),
    "posthog.properties.": texts,
    "posthog.properties_json": st.sampled_from(['{"a": 1, "b": [true, null]}', "{}", "[]", "{broken", '{"a": NaN}']),
    "posthog.set.email": st.sampled_from(["ada@example.com", ""]),
    "posthog.set.age": st.one_of(numbers, st.none()),
    "posthog.set_once.first_seen": texts,
    "posthog.unset": st.one_of(st.just("trial"), st.lists(st.sampled_from(["trial", "", "plan"]), max_size=3)),
    "posthog.groups.company": st.sampled_from(["acme", "", "g" * 500]),
    "posthog.groups.team": st.one_of(texts, numbers),
    "posthog.group_set.company.plan": texts,
    "posthog.group_set.company.seats": numbers,
    "posthog.group_set.company": texts,
    "posthog.alias": people,
    "posthog.anon_distinct_id": people,
    "posthog.session_id": st.sampled_from([uuid7, "not-a-uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]),
    "posthog.window_id": st.sampled_from([uuid7, "w"]),
    "posthog.process_person_profile": st.sampled_from([True, False, "false", "no", 0]),
    "posthog.ignore": st.sampled_from([True, False, "true", 1]),
    "posthog.on": st.sampled_from(["start", "end", "middle"]),
    "posthog.tier": st.sampled_from(["critical", "nice"]),
    "posthog.uuid": st.sampled_from([uuid7, uuid7.upper(), "nope", "00000000-0000-0000-0000-000000000000"]),
    "posthog.carrier": st.sampled_from(["", "log", "span", "abc"]),
    "sessionId": st.sampled_from([uuid7, "s-1"]),
    "session.id": st.sampled_from([uuid7, "s-1"]),
    "http.request.method": st.sampled_from(["GET", "POST", "_OTHER"]),
    "http.method": st.sampled_from(["GET", "POST"]),
    "http.response.status_code": st.sampled_from([200, 404, 500, "200"]),
    "http.status_code": st.sampled_from([200, 302, 503]),
    "http.route": st.sampled_from(["/orders/<int:id>", "/"]),
    "url.full": st.sampled_from(["https://shop.example/cart?token=1#x", "nonsense", "http://[::1"]),
    "http.url": st.sampled_from(["http://shop.example:8080/a?b=c"]),
    "url.path": st.sampled_from(["/cart", "/api/v1/x", "/health", ""]),
    "url.query": st.sampled_from(["utm_source=x&token=1"]),
    "http.target": st.sampled_from(["/cart?x=1", "/static/a.js"]),
    "url.scheme": st.sampled_from(["https", "http"]),
    "http.scheme": st.just("https"),
    "server.address": st.sampled_from(["shop.example", "10.0.0.1"]),
    "http.host": st.sampled_from(["shop.example:443", "shop.example"]),
    "server.port": st.sampled_from([443, 8080, "8080"]),
    "client.address": st.sampled_from(["203.0.113.9", "::1", "junk"]),
    "user_agent.original": st.sampled_from(
        ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Googlebot/2.1", "", "curl/8"]
    ),
    "http.user_agent": st.just("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1"),
    "http.request.header.referer": st.just(["https://example.com/from?x=1"]),
    "gen_ai.system": st.just("openai"),
    "feature_flag.key": st.sampled_from(["new-cart", "new-cart", ""]),
    "feature_flag.result.variant": st.sampled_from(["on", "off", "blue"]),
    "feature_flag.variant": st.sampled_from(["on", "blue"]),
    "feature_flag.result.value": st.sampled_from([True, False, "true", '"blue"', '{"a": 1}', "blue", 10, 1.5]),
    "feature_flag.result.reason": st.sampled_from(["targeting_match", "error"]),
    "feature_flag.provider.name": st.sampled_from(["flagd", "PostHogProvider", "otel-posthog"]),
    "feature_flag.context.id": st.sampled_from(["ada", "anonymous", "tenant-7"]),
    "feature_flag.version": st.sampled_from(["17", "v2"]),
    "error.type": st.sampled_from(["flag_not_found", "general", "500"]),
    "event.name": st.sampled_from(["feature_flag.evaluation", "order paid"]),
    "exception.type": st.sampled_from(["ValueError", "shop.errors.Boom", "java.lang.IllegalStateException", ""]),
    "exception.message": texts,
    "exception.stacktrace": st.sampled_from(
        [
            'Traceback (most recent call last):\n  File "/app/shop.py", line 7, in pay\n    charge()\nValueError: no\n',
            "java.lang.IllegalStateException: x\n\tat com.shop.Pay.run(Pay.java:3)\n",
            "not a stack at all",
            "",
        ]
    ),
    "exception.escaped": st.sampled_from(["True", "False", True]),
    "shop.kind": st.sampled_from(["vip", "plain"]),
    "code.function": texts,
}

_RESOURCE_KEYS = (
    "posthog.distinct_id",
    "posthog.event",
    "posthog.groups.company",
    "posthog.group_set.company.plan",
    "posthog.properties.plan",
    "posthog.set.email",
    "posthog.ignore",
    "posthog.carrier",
    "posthog.process_person_profile",
)
_deployment: dict[str, st.SearchStrategy[Any]] = {
    "service.name": st.sampled_from(["shop", "cart", "unknown_service"]),
    "service.version": st.sampled_from(["1.2.3", ""]),
    "service.instance.id": st.sampled_from(["i-1", "i-2"]),
    "deployment.environment.name": st.sampled_from(["prod", "dev"]),
    "deployment.environment": st.just("staging"),
    "process.runtime.version": st.just("3.11.7"),
    "process.runtime.name": st.just("cpython"),
    "os.type": st.just("linux"),
    "k8s.pod.name": st.just("shop-7d"),
    "cloud.provider": st.sampled_from(["aws", "gcp"]),
    "host.name": st.just("h1"),
}


# Made once, since making a strategy costs as much as drawing; a subset is one number, not one choice per member.
_names = {most: st.lists(st.sampled_from(sorted(vocabulary)), max_size=most, unique=True) for most in (3, 4, 8)}
_odd_ones = st.sampled_from(
    [*[()] * 24, *[(one,) for one in range(8)] * 2, *[(one, other) for one in range(8) for other in range(one)]]
)
_flag_names = sorted(
    name for name in vocabulary if name.startswith("feature_flag.") or name in ("error.type", "event.name")
)
_of_the_process = st.dictionaries(keys, no_bytes, max_size=2)
_defaults = st.lists(st.sampled_from(_RESOURCE_KEYS), max_size=2, unique=True)
scope_attributes = st.dictionaries(keys, no_bytes, max_size=1)


@functools.cache
def _of_the_app(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[Attributes]:
    return st.dictionaries(keys, extra, max_size=3)


def _subset(names: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.integers(0, 2 ** len(names) - 1).map(
        lambda chosen: [name for place, name in enumerate(names) if chosen >> place & 1]
    )


_some_flag_names = _subset(_flag_names)
_some_of_deployment = _subset(sorted(_deployment))


@functools.cache
def attributes(extra: st.SearchStrategy[Any] = values, most: int = 8) -> st.SearchStrategy[Attributes]:
    """The vocabulary, mostly with fitting values, sometimes with any; and keys of the app's own."""
    return _attributes(extra, most)


@st.composite
def _attributes(draw: st.DrawFn, extra: st.SearchStrategy[Any], most: int) -> Attributes:
    odd = draw(_odd_ones)
    drawn: Attributes = {
        name: draw(extra if place in odd else vocabulary[name]) for place, name in enumerate(draw(_names[most]))
    }
    drawn.update(draw(_of_the_app(extra)))
    return drawn


@functools.cache
def evaluations(extra: st.SearchStrategy[Any] = values) -> st.SearchStrategy[Attributes]:
    """Of a flag's evaluation, and of whatever else."""
    return _evaluations(extra)


@st.composite
def _evaluations(draw: st.DrawFn, extra: st.SearchStrategy[Any]) -> Attributes:
    drawn = {name: draw(vocabulary[name]) for name in draw(_some_flag_names)}
    return {**draw(attributes(extra, most=3)), "feature_flag.key": "new-cart", **drawn}


@st.composite
def resource_attributes(draw: st.DrawFn) -> Attributes:
    """Who emitted it, with `posthog.*` defaults for all its items."""
    drawn = {name: draw(_deployment[name]) for name in draw(_some_of_deployment)}
    for name in draw(_defaults):
        drawn[name] = draw(vocabulary[name])
    drawn.update(draw(_of_the_process))
    return drawn
