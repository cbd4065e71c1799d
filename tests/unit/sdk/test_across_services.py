"""Two services in a row: what holds for a request goes along with its calls, to our own services and to nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dirty_equals import IsPartialDict
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_posthog.config.settings import IdentityConfig, Mode, Secret
from otel_posthog.context import Ambient, attach_properties, current_work, new_work, working
from otel_posthog.context.baggage import decode
from otel_posthog.instrumentation.propagation import Propagation
from otel_posthog.lane.arriving import Arriving
from otel_posthog.lane.departing import Departing
from otel_posthog.lane.emitter import Emitter
from otel_posthog.observe import Guard
from otel_posthog.sdk.sampler import wrap_tracers
from otel_posthog.semconv import posthog

SESSION = "01920000-0000-7000-8000-000000000001"
SECRET = Secret("0123456789abcdef0123456789abcdef")
KNOWN = Ambient(distinct_id="u1", session_id=SESSION, groups={"company": "acme"}, flags={"beta": True, "checkout": "b"})
HOLDS = {
    "$session_id": SESSION,
    "$groups": {"company": "acme"},
    "$feature/beta": True,
    "$feature/checkout": "b",
    "$active_feature_flags": ["beta", "checkout"],
}
TAG = {"posthog.event": "paid"}


@pytest.fixture(autouse=True)
def own_world() -> Iterator[None]:
    """A context and a propagator of the test's own."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()]))
    token = context.attach(context.Context())
    yield
    context.detach(token)
    propagate.set_global_textmap(before)


@pytest.fixture
def connect() -> Iterator[Callable[[Any], Propagation]]:
    """Has the calls of an app take along what holds; until the end of the test."""
    made: list[Propagation] = []

    def attach(app: Any) -> Propagation:
        guard = Guard()
        propagation = Propagation(lambda: Departing(app.edge, app.runtime.settings.identity), guard)
        propagation.attach()
        made.append(propagation)
        return propagation

    yield attach
    for propagation in made:
        propagation.detach()


@contextmanager
def request(app: Any, headers: dict[str, str] | None = None, **attributes: Any) -> Iterator[Any]:
    """A server's span around a request with these headers."""
    parent = propagate.extract(headers or {}, context.Context())
    token = context.attach(parent)
    try:
        with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes=attributes) as span:
            yield span
    finally:
        context.detach(token)


def call(app: Any, url: str = "http://orders:8080/x", **attributes: Any) -> dict[str, str]:
    """The headers that an instrumented client sends."""
    headers: dict[str, str] = {}
    own = attributes or {"url.full": url}
    with app.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=own):
        propagate.inject(headers)
    return headers


def members(headers: dict[str, str]) -> dict[str, Any]:
    """The baggage in headers."""
    return dict(baggage.get_all(W3CBaggagePropagator().extract(headers, context.Context())))


def capture(app: Any, event: str) -> None:
    """As `capture()`."""
    assert Emitter(app.edge).emit(event, {posthog.EVENT: event})


@pytest.mark.parametrize("secrets", [(), (SECRET,)])
@pytest.mark.parametrize("mode", list(Mode))
def test_two_services_share_all(build: Any, connect: Any, secrets: tuple[Secret, ...], mode: Mode) -> None:
    """One person, one session, the same groups and flags, and the chosen super properties, in both."""
    config = IdentityConfig(baggage_secrets=secrets, baggage_properties=("plan", "seats"))
    first, second = build(identity=config, mode=mode), build(identity=config, mode=mode)
    connect(first)
    with (
        request(first),
        working(KNOWN),
        attach_properties({"plan": "pro", "seats": 3, "secret": "s"}),
    ):
        headers = call(first)
        capture(first, "called")
    with request(second, headers):
        with second.tracer.start_as_current_span("pay", attributes=TAG):
            pass
        capture(second, "called")
        with pytest.raises(ZeroDivisionError), second.tracer.start_as_current_span("divide"):
            _ = 1 / 0
    expected = {**HOLDS, "plan": "pro", "seats": 3}
    events = [*first.settle(), *second.settle()]
    assert [(event.event, event.distinct_id) for event in events] == [
        ("called", "u1"),
        ("paid", "u1"),
        ("called", "u1"),
        ("$exception", "u1"),
    ]
    for event in events:
        assert event.properties == IsPartialDict(expected)
    assert all("secret" not in event.properties for event in events[1:])
    assert len({event.properties["$trace_id"] for event in events}) == 1


def test_three_services(build: Any, connect: Any) -> None:
    """What came in goes on, with what was learnt on the way."""
    config = IdentityConfig(baggage_secrets=(SECRET,))
    one, two, three = (build(identity=config) for _ in range(3))
    connection = connect(one)
    with request(one), working(Ambient(groups={"company": "acme"}, flags={"beta": True})):
        headers = call(one)
    connection.detach()
    connect(two)
    with request(two, headers):
        current_work().change(distinct_id="u1", flags={"checkout": "b"})
        headers = call(two)
    with request(three, headers, **TAG):
        pass
    (event,) = three.settle()
    assert event.distinct_id == "u1"
    assert event.properties == IsPartialDict({k: v for k, v in HOLDS.items() if k != "$session_id"})


def test_what_is_learnt_goes_along_from_then_on(app: Any, connect: Any) -> None:
    """An `identify` in the middle of a request is seen by the next call, whatever context that is made in."""
    connect(app)
    with request(app):
        with app.tracer.start_as_current_span("inner"):
            before = call(app)
            with app.tracer.start_as_current_span("login"):
                current_work().change(distinct_id="u1")
            after = call(app)
        outside = call(app)
    assert (members(before), members(after), members(outside)) == (
        {},
        {"posthog.distinct_id": "u1"},
        {"posthog.distinct_id": "u1"},
    )


def test_who_a_span_says_it_is(app: Any, connect: Any) -> None:
    """The person on the request's span goes along, also where other spans had started before it was known."""
    connect(app)
    with request(app) as root, app.tracer.start_as_current_span("inner"):
        root.set_attribute("user.id", "u7")
        root.set_attribute("session.id", SESSION)
        headers = call(app)
    assert members(headers) == {"posthog.distinct_id": "u7", "posthog.session_id": SESSION}


def test_an_anonymous_visitor(build: Any, connect: Any) -> None:
    """Their own stable id goes along; after a logout a new one does, and nothing of before."""
    app, second = build(), build()
    connect(app)
    with request(app, **{"enduser.pseudo.id": "anon-1"}):
        assert members(call(app)) == {"posthog.anonymous_id": "anon-1"}
        headers = call(app)
        work = current_work()
        work.change(distinct_id="u1", groups={"company": "acme"})
        work.reset()
        assert members(call(app)) == {"posthog.anonymous_id": work.ambient.anonymous_id}
    with request(second, headers):
        capture(second, "seen")
        with second.tracer.start_as_current_span("x", attributes=TAG):
            pass
    assert {event.distinct_id for event in second.settle()} == {"anon-1"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"url.full": "https://api.stripe.com/v1"},
        {"http.url": "https://api.stripe.com/v1"},
        {"server.address": "api.stripe.com"},
        {"rpc.system": "grpc"},
        {"messaging.system": "kafka", "server.address": "kafka.example.com"},
    ],
)
def test_nothing_for_others(app: Any, connect: Any, attributes: dict[str, Any]) -> None:
    """A foreign host gets neither what we know nor what came from upstream; other baggage is the app's own."""
    connect(app)
    upstream = "posthog.distinct_id=u9,user.id=u9,enduser.id=u9,session.id=s,posthogDistinctId=u9,posthog.x=y,tier=gold"
    with request(app, {"baggage": upstream}), working(KNOWN):
        headers = call(app, **attributes)
    assert members(headers) == {"tier": "gold"}
    assert "traceparent" in headers


def test_a_call_that_nobody_describes(app: Any, connect: Any) -> None:
    """Where it is not known where a call goes, nothing goes along."""
    connect(app)
    headers: dict[str, str] = {}
    with request(app, {"baggage": "user.id=u9"}), working(KNOWN):
        propagate.inject(headers)
    assert members(headers) == {}


def test_tasks_of_our_own(app: Any, connect: Any) -> None:
    """A message for a broker that the span does not name is one for our own workers."""
    connect(app)
    with request(app), working(KNOWN):
        headers: dict[str, str] = {}
        with app.tracer.start_as_current_span(
            "apply_async", kind=SpanKind.PRODUCER, attributes={"messaging.destination": "celery"}
        ):
            propagate.inject(headers)
    assert decode(members(headers)).distinct_id == "u1"


@pytest.mark.parametrize(
    ("hosts", "arrives"),
    [(("internal",), False), (("rpc:shop.*",), True), (("rpc:shop.*", "!rpc:shop.orders"), False), (("rpc:x",), False)],
)
def test_a_remote_call_without_a_host(build: Any, connect: Any, hosts: tuple[str, ...], arrives: bool) -> None:
    """GRPC's spans name the service alone: it may be listed."""
    app = build(identity=IdentityConfig(baggage_hosts=hosts))
    connect(app)
    with request(app), working(KNOWN):
        assert bool(members(call(app, **{"rpc.system": "grpc", "rpc.service": "shop.Orders"}))) is arrives


@pytest.mark.parametrize(
    ("hosts", "targets", "arrives"),
    [
        (("internal",), ("orders:50051",), True),
        (("internal",), ("orders:50051", "orders.example:50051"), False),
        (("internal", "!rpc:shop.*"), ("orders:50051",), False),
        (("rpc:shop.*",), ("orders.example:50051",), True),
        ((), ("orders:50051",), False),
    ],
)
def test_a_remote_call_whose_channel_is_known(
    build: Any, hosts: tuple[str, ...], targets: tuple[str, ...], arrives: bool
) -> None:
    """It goes to where the channel goes, all of its places; a service that is listed, or taken out, comes first."""
    app = build(identity=IdentityConfig(baggage_hosts=hosts))
    departing = Departing(app.edge, app.runtime.settings.identity)
    attributes = {"rpc.system": "grpc", "rpc.service": "shop.Orders"}
    with (
        request(app),
        working(KNOWN),
        app.tracer.start_as_current_span("Place", kind=SpanKind.CLIENT, attributes=attributes),
    ):
        assert bool(baggage.get_all(departing.context(context.get_current(), targets))) is arrives


@pytest.mark.parametrize(("hosts", "arrives"), [(("*",), True), (("internal", "!orders"), False), ((), False)])
def test_which_hosts_are_ours_is_configured(build: Any, connect: Any, hosts: tuple[str, ...], arrives: bool) -> None:
    """The list decides, in both directions."""
    app = build(identity=IdentityConfig(baggage_hosts=hosts))
    connect(app)
    with request(app), working(KNOWN):
        assert bool(members(call(app))) is arrives


def test_spoofed_baggage_takes_over_nobody(build: Any) -> None:
    """With a secret, an identity that none of our services has signed counts for nothing."""
    app = build(identity=IdentityConfig(baggage_secrets=(SECRET,), baggage_properties=("plan",)))
    spoof = (
        "posthog.distinct_id=victim,posthog.session_id=s,posthog.groups=company%3Dvictim,posthog.flags=beta,"
        "posthog.properties=plan%3Dfree,user.id=victim,session.id=s,posthog.anonymous_id=victim"
    )
    for signature in ("", ",posthog.signature=1.1800000000.AAAA"):
        with request(app, {"baggage": spoof + signature}):
            capture(app, "called")
            with app.tracer.start_as_current_span("x", attributes=TAG):
                pass
    for event in app.settle():
        assert event.properties["$process_person_profile"] is False
        assert not {"$groups", "$session_id", "session_id", "$feature/beta", "plan"} & event.properties.keys()
        assert "victim" not in str(event)


def test_a_signature_of_yesterday(build: Any, connect: Any) -> None:
    """What was seen once is worth nothing for ever."""
    config = IdentityConfig(baggage_secrets=(SECRET,), baggage_max_age=300.0)
    app = build(identity=config)
    connect(app)
    with request(app), working(KNOWN):
        seen = members(call(app))
    import time

    for later, groups in ((0, {"company": "acme"}), (301, {}), (-61, {})):
        arriving = Arriving(config, now=lambda later=later: time.time() + later)
        for _ in range(2):
            assert arriving.ambient(seen).groups == groups
            assert bool(arriving.believed(seen)) is bool(groups)


def test_a_secret_is_rotated(build: Any, connect: Any) -> None:
    """The new one signs, and the old one is still believed."""
    new = Secret("f" * 32)
    app = build(identity=IdentityConfig(baggage_secrets=(new, SECRET)))
    connect(app)
    with request(app), working(KNOWN):
        seen = members(call(app))
    assert Arriving(IdentityConfig(baggage_secrets=(SECRET, new))).ambient(seen).groups == {"company": "acme"}
    assert Arriving(IdentityConfig(baggage_secrets=(SECRET,))).ambient(seen).groups == {}


def test_the_item_wins_over_baggage(app: Any) -> None:
    """What a span states, and what the browser's header says, is nearer than what another service sent."""
    sent = {"baggage": "posthog.distinct_id=upstream,posthog.groups=company%3Dupstream,posthog.flags=beta"}
    own = {"posthog.distinct_id": "own", "posthog.groups.company": "own", "posthog.properties.$feature/beta": "own"}
    with request(app, sent), app.tracer.start_as_current_span("x", attributes={**TAG, **own}):
        pass
    with request(app, sent, **{"http.request.header.x_posthog_distinct_id": ["browser"]}):
        app.tracer.start_span("y", attributes={"posthog.event": "by header"}).end()
    paid, by_header = app.settle()
    assert (paid.distinct_id, paid.properties["$groups"], paid.properties["$feature/beta"]) == (
        "own",
        {"company": "own"},
        "own",
    )
    assert (by_header.distinct_id, by_header.properties["$groups"]) == ("browser", {"company": "upstream"})


@pytest.mark.parametrize(("secrets", "merges"), [((), ""), ((SECRET,), "anon-1")])
def test_only_a_signed_anonymous_id_becomes_somebody_s(
    build: Any, connect: Any, secrets: tuple[Secret, ...], merges: str
) -> None:
    """A stranger names a visitor, and cannot have that visitor's past merged into a person of their own."""
    config = IdentityConfig(baggage_secrets=secrets)
    first, second = build(identity=config), build(identity=config)
    connect(first)
    with request(first, **{"enduser.pseudo.id": "anon-1"}):
        headers = call(first)
    with request(second, headers):
        capture(second, "seen")
        assert current_work().ambient.anonymous_id == merges
    assert [event.distinct_id for event in second.settle()] == ["anon-1"]


def test_a_claim_is_not_vouched_for_as_a_visitor(build: Any, connect: Any) -> None:
    """What a browser claims names somebody in the next service, too, and becomes nobody's there either."""
    config = IdentityConfig(baggage_secrets=(SECRET,))
    first, second = build(identity=config), build(identity=config)
    connect(first)
    with request(first), working(Ambient(anonymous_id="victim", claimed=True)):
        headers = call(first)
    with request(second, headers):
        capture(second, "seen")
        assert current_work().ambient.anonymous_id == ""
    assert [event.distinct_id for event in second.settle()] == ["victim"]


def test_a_scope_inside_of_a_request_is_apart(app: Any, connect: Any) -> None:
    """A piece of work of its own takes along nobody from the request around it."""
    connect(app)
    with request(app, **{"user.id": "u1"}):
        assert members(call(app)) == {"posthog.distinct_id": "u1"}
        token = context.attach(new_work(Ambient(groups={"company": "acme"}), context.get_current()))
        inside = call(app)
        context.detach(token)
    assert members(inside) == {"posthog.groups": "company=acme"}


def test_no_member_is_believed(build: Any) -> None:
    """Where the list is empty, and there is no secret, baggage says nothing."""
    app = build(identity=IdentityConfig(baggage_keys=()))
    sent = {"baggage": "posthog.distinct_id=u1,posthog.groups=company%3Dacme,posthog.flags=beta"}
    with request(app, sent, **TAG):
        pass
    (event,) = app.settle()
    assert event.properties["$process_person_profile"] is False
    assert not {"$groups", "$feature/beta"} & event.properties.keys()


def test_properties_of_others_are_not_believed(app: Any) -> None:
    """Without a secret only the properties that are chosen here, too."""
    with request(app, {"baggage": "posthog.properties=plan%3Dpro"}, **TAG):
        pass
    assert "plan" not in app.settle()[0].properties


def test_baggage_without_spans(app: Any) -> None:
    """Where nothing records spans, a call in a context with baggage still belongs to its person and groups."""
    ctx = propagate.extract({"baggage": "posthog.distinct_id=u1,posthog.groups=company%3Dacme"}, context.Context())
    token = context.attach(ctx)
    capture(app, "called")
    context.detach(token)
    (event,) = app.settle()
    assert (event.distinct_id, event.properties["$groups"]) == ("u1", {"company": "acme"})


def test_the_app_s_own_baggage_has_precedence_in_space(app: Any, connect: Any) -> None:
    """Ours never pushes out members of the app's own."""
    connect(app)
    mine = {f"key{number}": "x" * 40 for number in range(178)}
    with request(app), working(KNOWN):
        token = context.attach(context.set_value(baggage._BAGGAGE_KEY, mine))
        headers = call(app)
        context.detach(token)
        assert not [name for name in members(headers) if name.startswith("posthog.")]
        assert members(headers) == {k: v for k, v in mine.items() if k in members(headers)}
        large = {"a": "x" * 4000, "b": "x" * 4000}
        token = context.attach(context.set_value(baggage._BAGGAGE_KEY, large))
        headers = call(app)
        context.detach(token)
    assert {k: members(headers)[k] for k in large} == large
    assert members(headers)["posthog.distinct_id"] == "u1"


@pytest.mark.parametrize("record", ["all", "server", "off"])
def test_calls_of_unsampled_requests(build: Any, connect: Any, record: str) -> None:
    """Whatever is sampled and recorded: what holds goes to our own, and to nobody else."""
    app = build(sampler=ALWAYS_OFF)
    wrap_tracers(app.tracer_provider, record, travels=True)
    connect(app)
    with request(app, {"baggage": "user.id=u9"}), working(KNOWN):
        assert decode(members(call(app))) == KNOWN
        assert members(call(app, "https://api.stripe.com/v1")) == {}
        assert members(call(app, **{"rpc.system": "grpc"})) == {}


@pytest.mark.parametrize("hosts", ["internal", "*"])
def test_headers_that_are_used_again(build: Any, connect: Any, hosts: str) -> None:
    """What an earlier call has put there, maybe for another person, is not sent again: not by httpx's redirects, not
    by a prepared request, not with a list of headers that a producer keeps.
    """
    app = build(identity=IdentityConfig(baggage_hosts=(hosts,)))
    connect(app)
    headers, message = {}, [("v", b"1")]
    before = {"tier": "gold"}
    with request(app), working(KNOWN):
        token = context.attach(context.set_value(baggage._BAGGAGE_KEY, before))
        with app.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes={"url.full": "http://orders/"}):
            propagate.inject(headers)
            propagate.inject(message, setter=Kafka())
        context.detach(token)
    assert decode(members(headers)) == KNOWN
    assert b"u1" in dict(message)["baggage"]
    for url in ("http://orders/", "https://api.stripe.com/v1"):
        again, sent = dict(headers), list(message)
        with app.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes={"url.full": url}):
            propagate.inject(again)
            propagate.inject(sent, setter=Kafka())
        assert members(again) == before
        assert "baggage" not in dict(sent)
    mine = {"baggage": "tier=gold"}
    with app.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT):
        propagate.inject(mine)
    assert mine["baggage"] == "tier=gold"


class Kafka:
    """As the instrumentations of Kafka set headers."""

    def set(self, carrier: list[tuple[str, bytes]], key: str, value: str) -> None:
        """One more."""
        carrier.append((key, value.encode()))


@pytest.mark.parametrize(
    ("header", "value", "foreign"),
    [
        ("baggage", "posthog.distinct_id=u1,tier=gold, user.id=u1 ,a=b;p=1", "tier=gold,a=b;p=1"),
        ("baggage", "posthog%2Edistinct_id=u1, user.id = u1", ""),
        ("baggage", "shop.person=u1,tier=gold", "tier=gold"),
        ("baggage", "", ""),
        ("uberctx-posthog.distinct_id", "u1", ""),
        ("ot-baggage-user.id", "u1", ""),
        ("uberctx-tier", "gold", "gold"),
    ],
)
def test_what_may_leave(build: Any, header: str, value: str, foreign: str) -> None:
    """The members that name people, in every spelling, and those that the configuration knows."""
    app = build(identity=IdentityConfig(baggage_keys=("shop.person",)))
    departing = Departing(app.edge, app.runtime.settings.identity)
    assert departing.leaving(header, value, "orders:80") == value
    assert departing.leaving(header, value, "example.com:443") == foreign
    assert departing.leaving(header, value, "") == foreign


# --- the wrapper -----------------------------------------------------------------------------------------------------


def test_nothing_global_is_replaced(app: Any, connect: Any) -> None:
    """The propagator keeps its type and its place, and is as it was when ours leaves; twice is once."""
    before, setter = propagate.get_global_textmap(), propagate.set_global_textmap
    propagation = connect(app)
    propagation.attach()
    assert propagate.get_global_textmap() is before
    assert type(before) is CompositePropagator
    assert "inject" in vars(before)
    propagation.detach()
    propagation.detach()
    assert "inject" not in vars(before)
    assert propagate.set_global_textmap is setter


def test_a_propagator_that_is_set_later(app: Any, connect: Any) -> None:
    """The next one takes along what holds, too."""
    connect(app)
    propagate.set_global_textmap(W3CBaggagePropagator())
    with request(app), working(KNOWN):
        assert members(call(app))["posthog.distinct_id"] == "u1"


def test_a_propagator_that_cannot_be_extended(app: Any, connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One with slots goes on as it is, and it is said."""

    class Slotted:
        __slots__ = ()

        def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
            carrier["x"] = "y"

        def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
            return context

        fields: Any = frozenset()

    propagate.set_global_textmap(Slotted())
    connect(app)
    assert call(app) == {"x": "y"}
    assert "cannot be extended" in caplog.text


def test_a_failure_costs_the_baggage_and_not_the_call(app: Any) -> None:
    """Where nobody could look, nothing leaves: and the call does."""
    swallowed: list[str] = []

    class Counting(Guard):
        def failed(self, where: str, error: BaseException) -> None:
            swallowed.append(where)

    def broken() -> Departing:
        raise RuntimeError("broken")

    propagation = Propagation(broken, Counting())
    propagation.attach()
    try:
        with request(app, {"baggage": "user.id=u9"}):
            headers = call(app)
    finally:
        propagation.detach()
    assert headers.keys() == {"traceparent"}
    assert swallowed == ["propagation.inject"]


def test_a_wrapper_around_ours_stays(app: Any, connect: Any) -> None:
    """Where somebody has wrapped ours, ours passes everything through after its end."""
    propagation = connect(app)
    propagator = propagate.get_global_textmap()
    ours = propagator.inject
    propagator.inject = lambda *args, **kwargs: ours(*args, **kwargs)  # type: ignore[method-assign]
    propagation.detach()
    with request(app), working(KNOWN):
        assert members(call(app)) == {}
    assert trace.get_current_span() is trace.INVALID_SPAN
