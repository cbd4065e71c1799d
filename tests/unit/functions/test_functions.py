"""Functions of an app become events, and stay what they were."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
import types
from collections.abc import Callable
from typing import Any

import pytest
from dirty_equals import IsPartialDict

from otel_posthog import assembly, identify
from otel_posthog.config.settings import RulesConfig
from tests.unit.functions.conftest import Shop

Make = Callable[[str], Shop]
OK = {"success": True}
FAILED = {"success": False, "exception_type": "ValueError", "why": "ValueError"}


def test_the_form_of_the_issue(shop: Make) -> None:
    """A list of functions, an event, a property of an argument; nothing else of the call leaves."""
    app = shop('functions: ["billing:charge": {event: charge completed, properties: {amount: args.amount}}]')
    assert app.billing.charge(12.5, "USD", order=app.billing.Order("o1", 12.5), card="4242")["id"] == "ch_1"
    assert app.said == [("charge completed", {"amount": 12.5, **OK})]


EVERYTHING = """
functions:
  billing:charge:
    - event: "charge {args.currency}"
      properties:
        amount: args.amount
        currency: args.currency
        first_line: args.lines.0
        lines: args.lines
        total: args.order.total
        coupon: args.coupon
        missing: args.order.nothing.at.all
        charge: result.id
        cents: result.fee.cents
        tag: result.tags.1
        tags: result.tags
        label: "{args.amount} {args.currency}"
        hole: "{args.amount} {args.nothing}"
        either: "{args.nothing|args.currency}"
        source: shop
        number: 7
        on: true
        literal: {text: args.amount}
        worked: success
        failed: error.type
      distinct_id: args.user
      set: {plan: args.plan}
      set_once: {first_charge: args.amount}
      group: {company: args.company}
"""


def test_everything_that_can_be_said(shop: Make) -> None:
    """References, templates, constants, person, person properties and groups; what is missing is left out."""
    app = shop(EVERYTHING)
    order = app.billing.Order("o1", 30.0)
    app.billing.charge(12.5, "USD", "l1", "l2", order=order, coupon="X", user="ada", plan="pro", company=5)
    assert app.said == [
        (
            "charge USD",
            {
                "amount": 12.5,
                "currency": "USD",
                "first_line": "l1",
                "lines": ["l1", "l2"],
                "total": 30.0,
                "coupon": "X",
                "charge": "ch_1",
                "cents": 7,
                "tag": "b",
                "tags": ["a", "b"],
                "label": "12.5 USD",
                "either": "USD",
                "source": "shop",
                "number": 7,
                "on": True,
                "literal": "args.amount",
                "worked": True,
                "$set": {"plan": "pro"},
                "$set_once": {"first_charge": 12.5},
                "$groups": {"company": "5"},
                **OK,
            },
        )
    ]
    assert [event.distinct_id for event in app.app.delivery.events] == ["ada"]


def test_defaults_count_as_arguments(shop: Make) -> None:
    """What the signature says is what the function got."""
    app = shop("functions: {'billing:charge': {event: charged, properties: {currency: args.currency}}}")
    app.billing.charge(1)
    assert app.said == [("charged", {"currency": "EUR", **OK})]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("success", [("charged", OK)]),
        ("failure", [("charged", FAILED)]),
        (
            "always",
            [("charged", OK), ("charged", {"success": False, "exception_type": "ValueError", "why": "ValueError"})],
        ),
    ],
)
def test_outcomes(shop: Make, when: str, expected: list[Any]) -> None:
    """By default a call that raised is no event; the exception passes as it is."""
    app = shop(f"functions: {{'billing:charge': {{event: charged, when: {when}, properties: {{why: error.type}}}}}}")
    app.billing.charge(1)
    with pytest.raises(ValueError, match="no such amount"):
        app.billing.charge(-1)
    assert app.said == expected


def test_start_and_end(shop: Make) -> None:
    """A function may have several events; one at the start knows the arguments."""
    app = shop(
        "functions:\n  billing:charge:\n"
        "    - {event: charging, on: start, properties: {amount: args.amount}}\n"
        "    - charged\n"
        "    - {event: charge failed, when: failure}\n"
    )
    app.billing.charge(1)
    with pytest.raises(ValueError, match="no such amount"):
        app.billing.charge(-1)
    assert app.said == [
        ("charging", {"amount": 1}),
        ("charged", OK),
        ("charging", {"amount": -1}),
        ("charge failed", {"success": False, "exception_type": "ValueError"}),
    ]


def test_kinds(shop: Make) -> None:
    """Coroutine functions, generators and async generators: from the first step to the last."""
    app = shop(
        "functions:\n"
        "  billing:charge_later: {event: later, properties: {twice: result}}\n"
        "  billing:lines: {event: lines, properties: {gave: result, count: args.count}}\n"
        "  billing:lines_later: {event: lines later}\n"
    )

    async def all_of_them() -> list[int]:
        return [line async for line in app.billing.lines_later(2)]

    assert asyncio.run(app.billing.charge_later(3)) == 6
    assert list(app.billing.lines(2)) == [0, 1]
    assert asyncio.run(all_of_them()) == [0, 1]
    closed = app.billing.lines(5)
    assert next(closed) == 0
    closed.close()
    assert app.said == [
        ("later", {"twice": 6, **OK}),
        ("lines", {"gave": "all", "count": 2, **OK}),
        ("lines later", OK),
        ("lines", {"count": 5, "closed_early": True, **OK}),
    ]


def test_methods(shop: Make) -> None:
    """Methods of objects and classes, static ones, inherited ones, and `__init__`; `self` is an argument."""
    app = shop(
        "functions:\n"
        "  billing:Order.pay: {event: paid, properties: {order: args.self.id, by: args.by, gave: result}}\n"
        "  billing:Order.make: {event: made, properties: {order: result.id}}\n"
        "  billing:Order.vat: {event: vat, properties: {vat: result}}\n"
        "  billing:Rush.__init__: {event: rush, properties: {order: args.id}}\n"
    )
    order = app.billing.Order("o1", 10.0)
    assert order.pay("card") == "o1 by card"
    assert app.billing.Order.pay(order, by="cash") == "o1 by cash"
    assert app.billing.Rush.make("o2").total == 1.0
    assert (app.billing.Order.vat(10.0), order.vat(5.0)) == (2.0, 1.0)
    assert app.said == [
        ("paid", {"order": "o1", "by": "card", "gave": "o1 by card", **OK}),
        ("paid", {"order": "o1", "by": "cash", "gave": "o1 by cash", **OK}),
        ("rush", {"order": "o2", **OK}),
        ("made", {"order": "o2", **OK}),
        ("vat", {"vat": 2.0, **OK}),
        ("vat", {"vat": 1.0, **OK}),
    ]


def test_functions_stay_what_they_are(shop: Make) -> None:
    """Name, signature, documentation, kind, cache, pickles: for frameworks it is the same function."""
    app = shop(
        "functions:\n  billing:charge: charged\n  billing:charge_later: later\n  billing:lines: lines\n"
        "  billing:lines_later: lines later\n  billing:rate: rated\n  billing:Order.pay: paid\n"
    )
    billing = app.billing
    assert str(inspect.signature(billing.charge)) == "(amount, currency='EUR', *lines, order=None, **options)"
    assert (billing.charge.__name__, billing.charge.__doc__, billing.charge.__module__) == (
        "charge",
        "Charges.",
        f"{app.package}.billing",
    )
    assert isinstance(billing.charge, types.FunctionType)
    assert inspect.iscoroutinefunction(billing.charge_later)
    assert inspect.isgeneratorfunction(billing.lines)
    assert inspect.isasyncgenfunction(billing.lines_later)
    assert (billing.rate("FR"), billing.rate("FR"), billing.rate.cache_info().hits) == (2, 2, 1)
    assert pickle.loads(pickle.dumps(billing.charge)) is billing.charge
    order = billing.Order("o1", 1.0)
    assert pickle.loads(pickle.dumps(order.pay))("card") == "o1 by card"
    with pytest.raises(TypeError, match=r"charge\(\) missing 1 required positional argument: 'amount'"):
        billing.charge()


def test_wrong_names_are_said_once(shop: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What is not there, no function, or has no such argument: one line with the nearest name; the rest works."""
    app = shop(
        "functions:\n"
        "  billing:chrage: a\n"
        "  billing:Ordre.pay: b\n"
        "  billing:Order: c\n"
        "  billing:Order.shown: d\n"
        "  billing:NUMBER: e\n"
        "  billing:charge_later: {event: later, properties: {x: args.amuont}}\n"
        "  nowhere.at.all:charge: f\n"
    )
    with caplog.at_level(logging.WARNING, logger="otel_posthog"):
        assert asyncio.run(app.billing.charge_later(1)) == 2
        app.billing.charge(1)
        assert assembly.reload(app.app.runtime.settings) is not None
    file = str(app.rules)
    name = f"otel-posthog: functions: {app.package}.billing"
    gone = "is not counted: there is no module"
    assert [record.getMessage() for record in caplog.records] == [
        f"otel-posthog: functions: nowhere.at.all:charge {gone} nowhere in sys.path ({file}, line 8)",
        f"{name}:chrage: there is no chrage; did you mean charge? ({file}, line 2)",
        f"{name}:Ordre.pay: there is no Ordre; did you mean Order? ({file}, line 3)",
        f"{name}:Order: a class is no function; `Order.__init__` is called for each that is made ({file}, line 4)",
        f"{name}:Order.shown: this is a property; name the function that does the work ({file}, line 5)",
        f"{name}:NUMBER: this is no function but a int ({file}, line 6)",
        f"{name}:charge_later has no argument `amuont`; did you mean `amount`? ({file}, line 7)",
    ]
    assert app.said == [("later", OK)]


def test_misspelt_modules_are_said(shop: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the nearest name, and how each stands; what only nobody has imported yet is told at the end."""
    app = shop("functions: {'billing:charge': charged}")
    package, file = app.package, str(app.rules)
    app.rules.write_text(
        "functions:\n"
        f"  {package}.billing:charge: charged\n"
        f"  {package}.biling:charge: misspelt\n"
        f"  {package}.billing:chrage: misspelt\n"
        f"  {package}.billing.charging:charge: misspelt\n"
        f"  {package}s.billing:charge: misspelt\n"
        f"  {package}.views:charge: viewed\n"
    )
    name, gone = f"otel-posthog: functions: {package}", "is not counted: there is no module"
    with caplog.at_level(logging.INFO, logger="otel_posthog"):
        assert assembly.reload(app.app.runtime.settings) is not None
        app.billing.charge(1)
        app.instrumentor._leave()
    assert [record.getMessage().partition(f" ({file}")[0] for record in caplog.records] == [
        f"{name}.biling:charge {gone} {package}.biling; did you mean billing?",
        f"{name}.billing.charging:charge is not counted: {package}.billing is a module, and no package",
        f"{name}s.billing:charge {gone} {package}s in sys.path; did you mean {package}?",
        f"{name}.billing:chrage: there is no chrage; did you mean charge?",
        f"{name}.views:charge is not counted: nobody has imported {package}.views",
    ]
    states = [
        app.instrumentor.state(f"{package}.{one}") for one in ("billing:charge", "billing:chrage", "views:charge")
    ]
    assert states == ["", "there is no chrage; did you mean charge?", None]
    assert app.said == [("charged", OK)]


def test_names_taken_before(shop: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is imported already is wrapped where it is; who has the function by name is named, once."""
    app = shop("functions: {'wave:open': none}")
    import importlib

    views = importlib.import_module(f"{app.package}.views")
    app.rules.write_text(f"functions: {{'{app.package}.billing:charge': charged}}")
    with caplog.at_level(logging.WARNING, logger="otel_posthog"):
        assert assembly.reload(app.app.runtime.settings) is not None
        assert assembly.reload(app.app.runtime.settings) is not None
    app.billing.charge(1)
    views.charge(1)
    assert app.said == [("charged", OK)]
    assert [record.getMessage() for record in caplog.records] == [
        (
            f"otel-posthog: functions: {app.package}.billing:charge was imported by name before it could be wrapped; "
            f"calls from {app.package}.views are not counted. Start with `opentelemetry-instrument`, or instrument "
            "before the app is imported"
        )
    ]


def test_reload_adds_and_removes(shop: Make, tmp_path: Any) -> None:
    """After a reload what the file says now is wrapped, and nothing else; another file counts as well."""
    app = shop("functions: {'billing:charge': charged}")
    before = app.billing.charge
    app.billing.charge(1)
    other = tmp_path / "other.yaml"
    other.write_text(f"functions: {{'{app.package}.billing:rate': rated}}")
    import dataclasses

    settings = dataclasses.replace(app.app.runtime.settings, rules=RulesConfig(path=str(other)))
    assert assembly.reload(settings) is not None
    app.billing.charge(1)
    before(1)
    app.billing.rate("FR")
    assert app.said == [("charged", OK), ("rated", OK)]


def test_uninstrument_leaves_no_trace(shop: Make) -> None:
    """The very same objects stand where they stood; who kept a wrapped one calls the function."""
    app = shop("functions: {'billing:charge': charged, 'billing:Order.pay': paid, 'billing:Rush.pay': rushed}")
    billing = app.billing
    kept = billing.charge
    app.instrumentor.uninstrument()
    assert type(billing.charge) is types.FunctionType
    assert type(vars(billing.Order)["pay"]) is types.FunctionType
    assert "pay" not in vars(billing.Rush)
    kept(1)
    billing.charge(1)
    assert app.said == []
    app.instrumentor.instrument()
    billing.charge(1)
    assert app.said == [("charged", OK)]


class Broken:
    """Nothing of it can be read."""

    @property
    def total(self) -> float:
        raise RuntimeError("no total")


def test_values_that_cannot_be_had(shop: Make) -> None:
    """A broken property costs that value; a whole object never leaves, however its fields are named."""
    app = shop(
        "functions: {'billing:charge': {event: charged, properties: "
        "{amount: args.amount, total: args.order.total, order: args.order, orders: args.lines}}}"
    )
    app.billing.charge(1, "EUR", app.billing.Order("o1", 1.0), order=Broken())
    assert app.said == [("charged", {"amount": 1, **OK})]
    assert app.app.runtime.bridge.metrics()["otel_posthog.api.misused"] == {
        "function.args.order": 1,
        "function.args.lines": 1,
    }


def test_arguments_are_read_before_the_function_changes_them(shop: Make) -> None:
    """What was passed is what is told."""
    app = shop("functions: {'billing:grow': {event: grown, properties: {before: args.items}}}")
    app.billing.grow = lambda items: items.append(1)
    app.instrumentor.uninstrument()
    app.instrumentor.instrument()
    app.billing.grow([0])
    assert app.said == [("grown", {"before": [0], **OK})]


def test_the_caller_s_context(shop: Make) -> None:
    """The person and the trace of the caller, and the time of the call's end."""
    app = shop("functions: {'billing:charge': charged}")
    with app.app.tracer.start_as_current_span("request") as span:
        identify("ada")
        app.billing.charge(1)
    events = [event for event in app.app.settle() if event.event == "charged"]
    assert [(event.distinct_id, event.properties) for event in events] == [
        ("ada", IsPartialDict({"$trace_id": format(span.get_span_context().trace_id, "032x")}))
    ]


def test_after_the_end(shop: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bridge stopped the functions are called as they are."""
    app = shop("functions: {'billing:charge': charged, 'billing:lines': lines}")
    billing = app.billing
    monkeypatch.setattr(assembly._process, "_runtime", None)
    assert billing.charge(1)["id"] == "ch_1"
    assert list(billing.lines(1)) == [0]
    assert app.said == []
