"""What rules match, and what they make of it."""

from typing import Any

import pytest

from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.rules import Match, RuleSet
from otel_posthog.rules.load import parse_text


def span(name: str = "checkout", **fields: Any) -> Signal:
    """A server span; attributes by `attributes=`, everything else as on Signal."""
    fields = {
        "attributes": {},
        "resource": Resource({"service.name": "shop"}),
        "scope": Scope("shop.http", "1.2"),
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "span_kind": "server",
        "start_time_ns": 1_000_000_000,
        "time_ns": 1_012_500_000,
        "status_code": "unset",
    } | fields
    return Signal(kind=SignalKind.SPAN, name=name, **fields)


def log(body: Any = "order 7 paid", **fields: Any) -> Signal:
    """A log record."""
    fields = {"attributes": {}, "resource": Resource(), "scope": Scope("shop"), "time_ns": 1} | fields
    return Signal(kind=SignalKind.LOG, name=fields.pop("name", ""), body=body, **fields)


def matches(match: str, signal: Signal) -> bool:
    """Whether a rule with this `match` (YAML flow mapping) matches."""
    return parse_text(f"rules: [{{name: r, match: {match}, capture: e}}]").match(signal) is not None


def outcome(action: str, signal: Signal, match: str = "{kind: [span, span_event, log]}") -> Match | None:
    """What a rule with this action (YAML flow pairs) makes of a signal."""
    return parse_text(f"rules: [{{name: r, match: {match}, {action}}}]").match(signal)


@pytest.mark.parametrize(
    ("test", "value", "expected"),
    [
        ("paid", "paid", True),
        ("paid", "Paid", False),
        ("paid", ["x", "paid"], True),
        ("paid", {"paid": 1}, False),
        ("200", 200, True),
        ("200", "200", True),
        ("200", 200.0, True),
        ("'200'", 200, True),
        ("200", True, False),
        ("1", True, False),
        ("1.5", 1.5, True),
        ("true", True, True),
        ("true", "true", True),
        ("true", 1, False),
        ("0", False, False),
        ("paid", b"paid", False),
        ("[paid, refunded]", "refunded", True),
        ("[paid, 3]", "3", True),
        ("[paid, refunded]", "open", False),
        ("{glob: 'pa*'}", "paid", True),
        ("{glob: 'pa*'}", "unpaid", False),
        ("{glob: ['x', '?aid']}", "paid", True),
        ("{glob: '4*'}", 404, True),
        ("{glob: 'a[bc]'}", "ac", True),
        ("{glob: 'a*b'}", "a\nb", True),
        ("{regex: '^pa'}", "paid", True),
        ("{regex: 'id$'}", "paid", True),
        ("{regex: 'PAID'}", "paid", False),
        ("{regex: '(?i)PAID'}", ["x", "paid"], True),
        ("{gt: 3}", 3, False),
        ("{gte: 3}", 3, True),
        ("{lt: 3}", 2.9, True),
        ("{lte: 3}", "3", True),
        ("{lte: 3}", "three", False),
        ("{gt: 3}", float("nan"), False),
        ("{lt: 3}", float("nan"), False),
        ("{gt: 3}", True, False),
        ("{gt: 3}", 10**400, True),
        ("{gte: 200, lt: 300}", 204, True),
        ("{gte: 200, lt: 300}", 304, False),
        ("{exists: true}", "", True),
        ("{exists: true}", None, False),
        ("{exists: false}", None, True),
        ("{exists: false}", 0, False),
        ("{not_equals: paid}", "open", True),
        ("{not_equals: paid}", None, True),
        ("{not_equals: paid}", ["paid"], False),
        ("{not_one_of: [paid]}", "paid", False),
        ("{not_glob: 'pa*'}", None, True),
        ("{not_regex: 'pa'}", "paid", False),
    ],
)
def test_operators(test: str, value: Any, expected: bool) -> None:
    """Each operator, on values of every type."""
    attributes = {} if value is None else {"state": value}

    assert expected == matches(f"{{attributes: {{state: {test}}}}}", span(attributes=attributes))
    assert expected == matches(f"{{attributes: {{state: {test}}}}}", span(attributes={"state": value}))


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{name: checkout}", True),
        ("{name: {glob: 'check*'}}", True),
        ("{name: cart}", False),
        ("{span_kind: server}", True),
        ("{span_kind: [client, producer]}", False),
        ("{kind: log}", False),
        ("{scope: shop.http, scope_version: {glob: '1.*'}}", True),
        ("{scope: shop}", False),
        ("{resource: {service.name: shop}}", True),
        ("{resource: {service.name: till}}", False),
        ("{status: unset}", True),
        ("{status: [ok, error]}", False),
        ("{all: [{field: duration_ms, gt: 12}, {field: duration_ms, lt: 13}]}", True),
        ("{all: [{field: duration_ms, gt: 13}]}", False),
        ("{any: [{field: a, exists: true}, {field: name, equals: checkout}]}", True),
        ("{any: [{field: a, exists: true}]}", False),
        ("{none: [{field: a, exists: true}]}", True),
        ("{none: [{field: name, equals: checkout}]}", False),
        ("{all: [{any: [{none: [{field: a, exists: true}]}]}]}", True),
        ("{all: [{all: [{field: a, exists: true}]}]}", False),
        ("{all: [{field: trace_id, glob: 'aaaa*'}]}", True),
        ("{all: [{field: parent_span_id, exists: true}]}", False),
        ("{all: [{field: attributes.name, exists: true}]}", False),
        ("{all: [{field: scope.name, equals: shop.http}]}", True),
    ],
)
def test_fields_of_a_span(match: str, expected: bool) -> None:
    """Every part of a span can be matched."""
    assert expected == matches(match, span())


def test_alternatives() -> None:
    """The first alternative that is there is tested, in either spelling of alternatives."""
    old, new = span(attributes={"http.status_code": 200}), span(attributes={"http.response.status_code": 200})
    both = span(attributes={"http.response.status_code": 500, "http.status_code": 200})

    for match in (
        "{all: [{fields: [http.response.status_code, http.status_code], lt: 400}]}",
        "{attributes: {http.response.status_code|http.status_code: {lt: 400}}}",
    ):
        assert [matches(match, signal) for signal in (old, new, both, span())] == [True, True, False, False]


@pytest.mark.parametrize(
    ("severity", "number", "text", "expected"),
    [
        ("error", 17, "", True),
        ("error", 20, "", True),
        ("error", 21, "", False),
        ("{gte: warn}", 13, "", True),
        ("{gte: warn}", 12, "", False),
        ("{gt: error}", 20, "", False),
        ("{gt: error}", 21, "", True),
        ("{lt: warn}", 12, "", True),
        ("{lte: warn}", 16, "", True),
        ("[info, error]", 18, "", True),
        ("{not_one_of: [info, error]}", 18, "", False),
        ("{not_equals: info}", 0, "", True),
        ("{gte: warn}", 0, "WARNING", True),
        ("{gte: warn}", 0, "critical", True),
        ("{gte: warn}", 0, "whatever", False),
        ("{gte: warn}", 0, "", False),
        ("18", 18, "", True),
        ("{exists: true}", 0, "", False),
        ("{exists: false}", 0, "", True),
    ],
)
def test_severity(severity: str, number: int, text: str, expected: bool) -> None:
    """A name stands for its four numbers; where the number is missing the text serves."""
    signal = log(severity_number=number, severity_text=text)

    assert expected == matches(f"{{kind: log, severity: {severity}}}", signal)


def test_body() -> None:
    """A body is matched as text or by its members."""
    assert matches("{kind: log, body: {regex: '^order \\d+ paid$'}}", log())
    assert matches("{kind: log, all: [{field: body.order.id, equals: 7}]}", log({"order": {"id": 7}}))
    assert matches("{kind: log, all: [{field: body.order.id, equals: 7}]}", log({"order.id": 7}))
    assert not matches("{kind: log, all: [{field: body.order.id, equals: 7}]}", log("order"))
    assert not matches("{kind: log, body: x}", log(None))


def test_span_event_sees_its_span() -> None:
    """A rule for span events can ask for its span's name, kind and attributes; on others these are missing."""
    owner = span(attributes={"http.route": "/pay"})
    event = Signal(SignalKind.SPAN_EVENT, "paid", {"n": 1}, owner.resource, owner.scope, span=owner)
    match = (
        "{kind: [span_event, span], all: [{field: span.http.route, equals: /pay}, "
        "{field: span.name, equals: checkout}, {field: span.kind, equals: server}]}"
    )

    assert matches(match, event)
    assert not matches(match, owner)


def test_kind_is_span_by_default() -> None:
    """A rule without `kind` never counts the log records of a span once more."""
    assert not matches("{attributes: {state: paid}}", log(attributes={"state": "paid"}))


def test_first_match_wins() -> None:
    """Order decides, and a drop before a capture drops."""
    rules = parse_text(
        """
        rules:
          - {name: no tests, match: {attributes: {shop.test: true}}, drop: true}
          - {name: paid, match: {attributes: {state: paid}}, capture: paid}
          - {name: rest, match: {name: checkout}, capture: seen}
        """
    )

    assert rules.match(span(attributes={"shop.test": True, "state": "paid"})) == Match(rule="no tests", drop=True)
    assert rules.match(span(attributes={"state": "paid"})) == Match(rule="paid", event="paid")
    assert rules.match(span()) == Match(rule="rest", event="seen")
    assert rules.match(span("cart")) is None


def test_whole_action() -> None:
    """Every action at once, types kept."""
    rules = parse_text(
        """
        rules:
          - name: order
            match: {name: checkout}
            capture:
              event: "order {order.state}"
              properties:
                total: "{order.total}"
                items: "{order.items}"
                label: "{order.id} of {user.id}"
                braces: "{{{order.id}}}"
                service: "{resource.service.name}"
                scope: "{scope.name} {scope.version}"
                took: "{duration_ms}"
                source: shop
                fixed: 3
                big: {field: order.total, gte: 50}
                small: {field: order.nothing, lt: 50}
                new: {field: order.nothing, exists: false}
                tags: [shop, "{order.state}", "{order.nothing}", 5]
                hole: "x {order.nothing}"
                missing: "{order.nothing}"
              include: ["order.*"]
              strip_prefix: order.
            distinct_id: "{user.id|enduser.id}"
            set: {plan: "{plan}", none: "{none}"}
            set_once: {first: "{order.id}"}
            unset: [trial]
            group: {company: "{company.id}", team: "{team.id}"}
            group_set: {company: {name: "{company.name}"}, team: {name: "{team.name}"}}
            alias: "{legacy}"
            anon_distinct_id: "{visitor}"
        """
    )
    found = rules.match(
        span(
            attributes={
                "order.state": "paid",
                "order.total": 59.9,
                "order.items": ["a", "b"],
                "order.id": 7,
                "order.note": None,
                "enduser.id": "u1",
                "user.id": "u2",
                "plan": "pro",
                "company.id": 12,
                "company.name": "ACME",
                "legacy": ["l1"],
                "visitor": "v1",
                "posthog.tier": "x",
            }
        )
    )

    assert found == Match(
        rule="order",
        event="order paid",
        properties={
            "state": "paid",
            "total": 59.9,
            "items": ["a", "b"],
            "id": 7,
            "label": "7 of u2",
            "braces": "{7}",
            "service": "shop",
            "scope": "shop.http 1.2",
            "took": 12.5,
            "source": "shop",
            "fixed": 3,
            "big": True,
            "new": True,
            "tags": ["shop", "paid", 5],
        },
        distinct_id="u2",
        set={"plan": "pro"},
        set_once={"first": 7},
        unset=("trial",),
        groups={"company": "12"},
        group_set={"company": {"name": "ACME"}},
        alias="l1",
        anon_distinct_id="v1",
    )


@pytest.mark.parametrize("value", [None, "", "  ", b"x", {"a": 1}, ["a", "b"], [["a"]], 2**300])
def test_hole_in_the_event_name(value: Any) -> None:
    """A name whose reference has no text does not match: it would be another event."""
    rules = parse_text(
        """
        rules:
          - {name: named, match: {name: checkout}, capture: "{state}"}
          - {name: fallback, match: {name: checkout}, capture: checked out}
        """
    )

    assert rules.match(span(attributes={"state": value})) == Match(rule="fallback", event="checked out")


def test_hole_in_an_id() -> None:
    """A half id never stands for a person or a group: it is left out as a whole, the event stays."""
    action = (
        "capture: e, distinct_id: '{tenant}-{user}', alias: '{tenant}-{user}', group: {t: 'x-{tenant}'},"
        "anon_distinct_id: '{user}'"
    )

    assert outcome(action, span(attributes={"user": "u1"})) == Match(rule="r", event="e", anon_distinct_id="u1")


def test_update_without_capture() -> None:
    """A rule may change a person without sending an event of its own."""
    assert outcome("set: {plan: '{plan}'}", span(attributes={"plan": "pro"})) == Match(rule="r", set={"plan": "pro"})


def test_include_never_copies_tags() -> None:
    """`include: "*"` copies the item's attributes but none of `posthog.*`; a short name never hides a real one."""
    action = "capture: {event: e, include: '*', strip_prefix: 'a.'}"
    attributes = {"a.b": 1, "a.": 2, "a.c": 3, "c": 4, "posthog.distinct_id": "u1", "n": None}

    assert outcome(action, span(attributes=attributes)) == Match(
        rule="r", event="e", properties={"b": 1, "a.": 2, "a.c": 3, "c": 4}
    )


def test_on_start() -> None:
    """A rule that fires at the start is found only where none before it matches: that one decides, at the end."""
    rules = parse_text(
        """
        rules:
          - {name: import, match: {name: job, attributes: {job.type: import}}, capture: imported}
          - {name: job, on: start, match: {name: job}, capture: job started}
        """
    )
    job = span("job")

    assert rules.match(job) == Match(rule="job", on="start", event="job started")
    assert rules.match(span("job", attributes={"job.type": "import"})) == Match(rule="import", event="imported")


def test_no_rules() -> None:
    """An empty rule set matches nothing and says so."""
    rules = RuleSet()

    assert rules.match(span()) is None
    assert (bool(rules), len(rules), rules.names, rules.digest) == (False, 0, (), "")


def test_long_text_is_cut_for_patterns() -> None:
    """A pattern sees the first 4096 characters, so that a megabyte of text costs no time."""
    text = "a" * 4095 + "b" + "c" * 1_000_000

    assert matches("{attributes: {t: {regex: 'b$'}}}", span(attributes={"t": text}))
    assert not matches("{attributes: {t: {regex: c}}}", span(attributes={"t": text}))
