"""Flags files: what they may say, what each mistake is told, and PostHog's hashes."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsStr
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from otel_posthog.emulator import FlagsError
from otel_posthog.emulator.flags import document
from otel_posthog.emulator.flags.document import flags_of, load_flags, parse_flags
from otel_posthog.emulator.flags.model import (
    Cohort,
    Condition,
    Dependency,
    Filter,
    Flag,
    FlagSet,
    Membership,
    Variant,
)
from otel_posthog.emulator.flags.operators import OPERATORS, instant_of, text_of, version_of
from otel_posthog.emulator.flags.rules import Subject, bucket, evaluate, variant_of
from otel_posthog.rules.document import parse_document

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def messages(text: str) -> list[str]:
    """What is said about a file."""
    with pytest.raises(FlagsError) as found:
        parse_flags(text.encode(), "flags.yaml")
    return [str(error) for error in found.value.errors]


def test_every_key() -> None:
    """The example of the module becomes these flags, as a whole."""
    assert document.__doc__ is not None
    team = Cohort("team", 1, ((Filter("email", "ends_with", "@example.com"),),))

    assert parse_flags(document.__doc__.split("\n\n", 2)[2].encode(), "flags.yaml") == FlagSet(
        {
            "new-checkout": Flag(
                "new-checkout",
                1,
                (Condition(rollout_percentage=25.0),),
                payloads={"true": {"steps": 2}},
                owner="payments",
                expires="2027-01-31",
            ),
            "dark-mode": Flag("dark-mode", 2, (Condition(),)),
            "button-colour": Flag(
                "button-colour",
                3,
                (
                    Condition(cohorts=(Membership(team),), variant="green"),
                    Condition(
                        (Filter("plan", "exact", ["pro", "team"]), Filter("seats", "gte", 5)),
                        flags=(Dependency("new-checkout", True),),
                        rollout_percentage=50.0,
                    ),
                ),
                variants=(Variant("control", 50.0), Variant("green", 50.0)),
                payloads={"green": {"hex": "#0a0"}},
                experiment="Button colour",
            ),
            "seats-v2": Flag(
                "seats-v2", 4, (Condition((Filter("plan", "exact", "enterprise"),)),), group="company"
            ),
        },
        {"team": team, "testers": Cohort("testers", 2, members=frozenset({"ada", "grace"}))},
        ("company",),
    )  # fmt: skip


def test_the_rest_of_the_keys() -> None:
    """Keys that the example has no room for."""
    flags = flags_of(
        {
            "group_types": ["company"],
            "cohorts": {"team": {"distinct_ids": ["ada", 7]}},
            "x-anchors": {"anything": 1},
            "flags": {
                "short": "green",
                "no": False,
                "long": {
                    "name": "A name",
                    "active": False,
                    "ensure_experience_continuity": True,
                    "evaluation_runtime": "server",
                    "id": 70,
                    "version": 4,
                    "expires": date(2027, 1, 31),
                    "x-note": "mine",
                    "payload": None,
                    "conditions": [
                        {"not_cohorts": ["team"], "properties": {"a": {"is_set": True}, "b": {"is_not": [1, True]}}},
                        {"group": "company", "properties": {"since": {"is_date_after": "-30d"}}},
                    ],
                },
            },
        }
    )
    team = Cohort("team", 1, members=frozenset({"ada", "7"}))

    assert flags.flags == {
        "short": Flag("short", 1, (Condition(),), variants=(Variant("green", 100.0),)),
        "no": Flag("no", 2, (Condition(rollout_percentage=0.0),)),
        "long": Flag(
            "long",
            70,
            (
                Condition(
                    (Filter("a", "is_set", "is_set"), Filter("b", "is_not", [1, True])),
                    (Membership(team, inside=False),),
                ),
                Condition((Filter("since", "is_date_after", "-30d"),), group="company"),
            ),
            name="A name",
            active=False,
            payloads={"true": None},
            ensure_experience_continuity=True,
            evaluation_runtime="server",
            expires="2027-01-31",
            version=4,
        ),
    }


def test_documented_files() -> None:
    """The file in the documentation, and that of the shop, can be used; the table names every key of a flag."""
    page = (ROOT / "docs/emulator.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    flags = parse_flags(block.encode(), "docs/emulator.md")
    shop = load_flags(str(ROOT / "examples/shop/flags.yaml"))
    table = page.split("| Key of a flag |", 1)[1].split("\n\n", 1)[0]

    assert set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines()[2:]))) == set(
        document.FLAG_KEYS
    )
    assert [key for key in document.CONDITION_KEYS if f"`{key}`" not in table] == []
    assert set(flags.flags["button-colour"].payloads) == {"green"}
    assert [[bool(flag.variants), flag.experiment, flag.owner] for flag in shop.flags.values()] == [
        [False, "", "checkout"],
        [True, "Wording of the order button", "growth"],
    ]


def test_schema() -> None:
    """The JSON Schema for editors knows every key and operator, takes the documented files and refuses mistakes."""
    schema = json.loads((ROOT / "docs/flags.schema.json").read_text(encoding="utf-8"))
    check = Draft202012Validator(schema)
    parts = schema["$defs"]
    page = (ROOT / "docs/emulator.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    # What depends on another part of the file, or on the inside of a text, is beyond a schema.
    beyond = re.compile(
        r"make 90|unknown (variant|group|cohort|flag)|no (date|version|regular)|take for|circle|id 2|many"
    )

    assert (set(schema["properties"]), set(parts["cohort"]["properties"])) == (
        set(document.ROOT_KEYS), set(document.COHORT_KEYS)
    )  # fmt: skip
    assert tuple(parts["flag_in_full"]["properties"]) == document.FLAG_KEYS
    assert tuple(parts["condition"]["properties"]) == document.CONDITION_KEYS
    assert tuple(parts["properties"]["additionalProperties"]["anyOf"][2]["properties"]) == OPERATORS
    for good in (block, (ROOT / "examples/shop/flags.yaml").read_text(encoding="utf-8")):
        check.validate(_plain(good))
    assert [
        text for text, message in MISTAKES.items() if not beyond.search(message) and check.is_valid(_plain(text))
    ] == []


def _plain(text: str) -> Any:
    root, _ = parse_document(text.encode(), "flags.yaml")
    return document._plain(root)


@pytest.mark.parametrize("text", ["", "flags:\n  {}\n", "{}"])
def test_a_file_without_flags(text: str) -> None:
    """No flag is not a mistake."""
    assert parse_flags(text.encode(), "flags.yaml") == FlagSet()


MISTAKES = {
    "- a": "flags.yaml:1: a list stands where a mapping belongs. Write `flags:` with a key for each",
    "flag: {}": "`flag` (flags.yaml:1): unknown key `flag`. Did you mean `flags`? "
    "Known here: flags, group_types, cohorts",
    "flags: [a]": "`flags` (flags.yaml:1): a list stands where a mapping belongs. Write a key for each flag",
    "flags: {a b: true}": '`flags["a b"]` (flags.yaml:1): a flag\'s key has letters, digits, `-` and `_` alone. '
    "Rename 'a b'",
    "flags: {a: 25}": "`flags.a` (flags.yaml:1): '25' stands where a mapping belongs. Write `true`, `false`, the name "
    "of a variant, or a mapping such as `{rollout_percentage: 25}`",
    "flags: {a: }": "`flags.a` (flags.yaml:1): nothing stands where a mapping belongs. Write `true`, `false`, the name "
    "of a variant, or a mapping such as `{rollout_percentage: 25}`",
    "flags: {a: {active: 1}}": "`flags.a.active` (flags.yaml:1): '1' stands where `true` or `false` belongs. "
    "Write `true` or `false`",
    "flags: {a: {id: true}}": "`flags.a.id` (flags.yaml:1): 'True' stands where a whole number belongs. "
    "Write 1 or more",
    "flags: {a: {version: 0}}": "`flags.a.version` (flags.yaml:1): must be 1 or more. Write a larger number",
    "flags: {a: {owner: 5}}": "`flags.a.owner` (flags.yaml:1): '5' stands where text belongs. Put it in quotes",
    "flags: {a: {expires: soon}}": "`flags.a.expires` (flags.yaml:1): 'soon' is no date. Write it as 2027-01-31",
    "flags: {a: {evaluation_runtime: edge}}": "`flags.a.evaluation_runtime` (flags.yaml:1): 'edge' is no runtime. "
    "One of all, client, server",
    "flags: {a: {rollout_percentage: 101}}": "`flags.a.rollout_percentage` (flags.yaml:1): '101' is no percentage. "
    "Write a number from 0 to 100",
    "flags: {a: {rollout_percentage: 5, conditions: [{}]}}": "`flags.a.rollout_percentage` (flags.yaml:1): stands "
    "beside `conditions`. Write it in each condition",
    "flags: {a: {conditions: []}}": "`flags.a.conditions` (flags.yaml:1): there is none, so that nobody would get the "
    "flag. Remove the key for everybody",
    "flags: {a: {conditions: {}}}": "`flags.a.conditions` (flags.yaml:1): a mapping stands where a list belongs. "
    "Write a list of conditions, each with a `-`",
    "flags: {a: {variants: {x: 30, y: 60}}}": "`flags.a.variants` (flags.yaml:1): the shares of the variants make "
    "90 %. Make them 100 % together",
    "flags: {a: {variants: {x: 100}, payload: 1}}": "`flags.a.payload` (flags.yaml:1): this flag has variants, and "
    "each has its own payload. Write `payloads:` with x",
    "flags: {a: {variants: {x: 100}, payloads: {y: 1}}}": "`flags.a.payloads.y` (flags.yaml:1): unknown variant `y`. "
    "Known here: x",
    "flags: {a: {payloads: {x: 1}}}": "`flags.a.payloads` (flags.yaml:1): this flag has no variants. Write `payload:`, "
    "which is for true",
    "flags: {a: {conditions: [{variant: x}]}}": "`flags.a.conditions[0].variant` (flags.yaml:1): unknown variant `x`. "
    "There is no variant here",
    "flags: {a: {group: company}}": "`flags.a.group` (flags.yaml:1): unknown group type 'company'. "
    "Add it to `group_types:` at the top of the file",
    "group_types: [a, b, c, d, e, f]": "`group_types` (flags.yaml:1): PostHog has at most five group types in a "
    "project. Remove some",
    "group_types: [{}]": "`group_types[0]` (flags.yaml:1): a mapping stands where a name belongs. Put it in quotes",
    "cohorts: {c: {any: [], distinct_ids: []}}": "`cohorts.c` (flags.yaml:1): needs exactly one of `any` and "
    "`distinct_ids`. Write people by property, or by id",
    "flags: {a: {conditions: [{cohorts: [c]}]}}": "`flags.a.conditions[0].cohorts[0]` (flags.yaml:1): unknown cohort "
    "`c`. There is no cohort here",
    "flags: {a: {conditions: [{flags: {b: true}}]}}": "`flags.a` (flags.yaml:1): unknown flag `b`. "
    "There is no flag here",
    "flags: {a: {conditions: [{flags: {b: 5}}]}, b: true}": "`flags.a.conditions[0].flags.b` (flags.yaml:1): is no "
    "value of a flag. Write `true`, `false` or the name of a variant",
    "flags: {a: {conditions: [{flags: {b: x}}]}, b: y}": "`flags.a` (flags.yaml:1): unknown variant of `b` `x`. "
    "Known here: y",
    "flags: {a: {conditions: [{flags: {a: true}}]}}": "`flags.a` (flags.yaml:1): these flags depend on each other: "
    "a → a. Break the circle",
    "flags: {a: {id: 2}, b: true}": "`flags.b` (flags.yaml:1): has the id 2 of `a`. Give ids to all flags, or to none",
    "flags: {a: {conditions: [{properties: {p: }}]}}": "`flags.a.conditions[0].properties.p` (flags.yaml:1): has no "
    "value. Write the value, or `{is_set: true}`",
    "flags: {a: {conditions: [{properties: {p: {is_set: false}}}]}}": "`flags.a.conditions[0].properties.p.is_set` "
    "(flags.yaml:1): takes `true`. Write `is_set: true`, or `is_not_set: true`",
    "flags: {a: {conditions: [{properties: {p: {gt: many}}}]}}": "`flags.a.conditions[0].properties.p.gt` "
    "(flags.yaml:1): 'many' is no number. Write a number",
    "flags: {a: {conditions: [{properties: {p: {regex: '('}}}]}}": "`flags.a.conditions[0].properties.p.regex` "
    "(flags.yaml:1): '(' is no regular expression: missing ), unterminated subpattern. Mend it",
    "flags: {a: {conditions: [{properties: {p: {regex: '(a+)+b'}}}]}}": "`flags.a.conditions[0].properties.p.regex` "
    "(flags.yaml:1): '(a+)+b' can take for ever: a repeat can read the same text in several ways. "
    "Write it without nested repeats",
    "flags: {a: {conditions: [{properties: {p: {is_date_before: 2024}}}]}}": "`flags.a.conditions[0].properties.p."
    "is_date_before` (flags.yaml:1): '2024' is no date. Write 2027-01-31, or -30d for thirty days ago",
    "flags: {a: {conditions: [{properties: {p: {semver_gt: x}}}]}}": "`flags.a.conditions[0].properties.p.semver_gt` "
    "(flags.yaml:1): 'x' is no version. Write 1.2.3",
    "flags: {a: {conditions: [{properties: {p: {semver_wildcard: '*'}}}]}}": "`flags.a.conditions[0].properties.p."
    "semver_wildcard` (flags.yaml:1): '*' is no version. Write 1.2.3, or 1.2.* for semver_wildcard",
    "flags: {a: {conditions: [{properties: {p: {icontains: [x]}}}]}}": "`flags.a.conditions[0].properties.p.icontains` "
    "(flags.yaml:1): this cannot be compared. Write text or a number",
    "flags: {a: {conditions: [{properties: {p: {}}}]}}": "`flags.a.conditions[0].properties.p` (flags.yaml:1): has no "
    "operator. One of exact, is_not, is_set, is_not_set, icontains, not_icontains, starts_with, not_starts_with, "
    "ends_with, not_ends_with, regex, not_regex, gt, gte, lt, lte, is_date_before, is_date_after, semver_eq, "
    "semver_neq, semver_gt, semver_gte, semver_lt, semver_lte, semver_tilde, semver_caret, semver_wildcard",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text: str) -> None:
    """Each mistake is told with file, line, key and the way out."""
    assert messages(text) == [MISTAKES[text]]


def test_groups_and_people_are_not_mixed() -> None:
    """What is about people is refused where a condition is about groups."""
    text = """
group_types: [company]
cohorts: {team: {distinct_ids: [ada]}}
flags:
  a: {group: company, ensure_experience_continuity: true, conditions: [{cohorts: [team]}, {group: company}]}
"""

    assert messages(text) == [
        "`flags.a.conditions[0].cohorts` (flags.yaml:5): a cohort is of people, this condition about groups. Remove it",
        "`flags.a.conditions[1].group` (flags.yaml:5): the whole flag is about 'company' already. Remove one of them",
        "`flags.a.ensure_experience_continuity` (flags.yaml:5): groups do not log in. Remove it, or remove `group`",
    ]


def test_all_mistakes_at_once() -> None:
    """One look is enough to mend a file; each line is its own."""
    found = messages("flags:\n  a:\n    rolout_percentage: 5\n  b:\n    variants:\n      x: -1\n")

    assert [message.split(": ", 1)[0] for message in found] == [
        "`flags.a.rolout_percentage` (flags.yaml:3)",
        "`flags.b.variants.x` (flags.yaml:6)",
        "`flags.b.variants` (flags.yaml:5)",
    ]


def test_long_chains() -> None:
    """Flags may rest on each other, but not without end; many ways to one flag are no chain."""

    def chain(length: int) -> dict[str, Any]:
        flags: dict[str, Any] = {"f0": True}
        for index in range(1, length):
            needs = {f"f{other}": True for other in range(max(0, index - 3), index)}
            flags[f"f{index}"] = {"conditions": [{"flags": needs}]}
        return {"flags": flags}

    flags = flags_of(chain(21))
    outcome = evaluate(flags, ["f20"], Subject("ada"), NOW)["f20"]
    with pytest.raises(FlagsError, match="rests on more than 20 flags in a row"):
        flags_of(chain(2000))

    assert (outcome.value, len(flags.needed_by("f20"))) == (True, 20)


def test_not_json() -> None:
    """What cannot be sent to anybody is no flag: it is said when the flags are set."""
    endless: list[Any] = []
    endless.append(endless)
    found: list[str] = []
    for payload in (object(), float("nan"), {1, 2}, endless, {(1, 2): 3}):
        with pytest.raises(FlagsError) as error:
            flags_of({"flags": {"a": {"payload": payload}}})
        found.append(str(error.value))

    for text in ("payload: 1e999", "conditions: [{properties: {p: 1e999}}]"):
        assert messages(f"flags: {{a: {{{text}}}}}") == ["flags.yaml: it holds a number beyond JSON's, like 1e999"]
    assert found == [
        "flags: they are not JSON: no place for a object",
        IsStr(regex="flags: they are not JSON: Out of range float values .*"),
        "flags: they are not JSON: no place for a set",
        "flags: they are not JSON: Circular reference detected",
        "flags: they are not JSON: keys must be str, int, float, bool or None, not tuple",
    ]


def test_not_a_file(tmp_path: Path) -> None:
    """A missing file, and broken YAML, are told like any other mistake."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("flags: {a: true, a: false}")
    found: list[str] = []
    for path in (tmp_path / "absent.yaml", broken):
        with pytest.raises(FlagsError) as error:
            load_flags(str(path))
        found.append(str(error.value).replace(str(tmp_path), "…"))

    assert found == [
        "…/absent.yaml: the flags file cannot be read: No such file or directory. Mend the path",
        "…/broken.yaml:1: the key `a` is already on line 1. Keep one of the two",
    ]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([*document.FLAG_KEYS, *document.CONDITION_KEYS, "any", "x", "gt", "regex"]), inner, max_size=3
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["flags", "cohorts", "group_types"]), st.dictionaries(st.text(), anything)))
def test_any_document(given_document: dict[str, Any]) -> None:
    """Any document is flags that can be evaluated, or told to be none."""
    try:
        flags = flags_of(given_document)
    except FlagsError as error:
        assert error.errors
        return
    outcomes = evaluate(flags, flags.flags, Subject("ada", {"x": "y"}), NOW)
    assert list(outcomes) == [key for key, flag in flags.flags.items() if flag.active]


# --- PostHog's arithmetic ------------------------------------------------------------------------------------------


def test_hashes() -> None:
    """The hashes are those that PostHog's SDKs publish in their own tests."""
    simple = Flag("simple-flag", 1, (Condition(rollout_percentage=45.0),))
    multi = Flag(
        "multivariate-flag",
        1,
        (Condition(rollout_percentage=55.0),),
        variants=tuple(
            Variant(name, share)
            for name, share in (("first", 50.0), ("second", 20.0), ("third", 20.0), ("fourth", 5.0), ("fifth", 5.0))
        ),
    )
    flags = FlagSet({"simple-flag": simple, "multivariate-flag": multi})
    people = [f"distinct_id_{number}" for number in range(20)]
    values = [evaluate(flags, flags.flags, Subject(person), NOW) for person in people]

    assert [outcome["simple-flag"].value for outcome in values[:10]] == [
        False, True, True, False, True, False, False, True, False, True
    ]  # fmt: skip
    assert [outcome["multivariate-flag"].value for outcome in values] == [
        "second", "second", "first", False, False, "second", "first", False, False, False,
        "first", "third", False, "first", "second", "first", False, False, "fourth", "first",
    ]  # fmt: skip


@given(st.text(min_size=1), st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_rollout_keeps_whom_it_had(key: str, person: str, one: float, other: float) -> None:
    """Who is in at 10 % is in at 50 %, and keeps their variant."""
    low, high = sorted((one, other))
    variants = (Variant("a", 50.0), Variant("b", 50.0))
    first, second = (
        evaluate(
            FlagSet({key: Flag(key, 1, (Condition(rollout_percentage=share),), variants=variants)}),
            [key], Subject(person), NOW,
        )[key].value
        for share in (low, high)
    )  # fmt: skip

    assert first in {False, second}


def test_shares() -> None:
    """10,000 people spread as the percentages say."""
    flag = Flag("share", 1, (Condition(),), variants=(Variant("a", 10.0), Variant("b", 90.0)))
    people = [f"person-{number}" for number in range(10_000)]

    assert 900 < sum(bucket("share", person) <= 0.1 for person in people) < 1100
    assert 900 < sum(variant_of(flag, person) == "a" for person in people) < 1100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1d", "2026-11-19T12:00:00+00:00"),
        ("2w", "2026-11-06T12:00:00+00:00"),
        ("-5h", "2026-11-20T07:00:00+00:00"),
        ("-9m", "2026-02-20T12:00:00+00:00"),
        ("-1y", "2025-11-20T12:00:00+00:00"),
        ("2024-06-01", "2024-06-01T00:00:00+00:00"),
        ("2024-06-01T10:00:00+02:00", "2024-06-01T10:00:00+02:00"),
        ("2024-06-01 10:00:00 UTC", "2024-06-01T10:00:00+00:00"),
        (1717200000, "2024-06-01T00:00:00+00:00"),
        ("soon", None),
        ("-9999y", None),
        (True, None),
        ([], None),
        (1e300, None),
    ],
)
def test_dates(text: Any, expected: str | None) -> None:
    """Dates are absolute or relative, and UTC where they do not say."""
    made = instant_of(text, NOW)

    assert (None if made is None else made.isoformat()) == expected


def test_months_end_where_they_can() -> None:
    """Two months before 31 March is 28 January, by way of February; a year before a leap day is the 28th."""
    march, leap = datetime(2026, 3, 31, tzinfo=timezone.utc), datetime(2028, 2, 29, tzinfo=timezone.utc)

    assert [instant_of("-2m", march), instant_of("-1y", leap)] == [
        datetime(2026, 1, 28, tzinfo=timezone.utc),
        datetime(2027, 2, 28, tzinfo=timezone.utc),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1.2.3", (1, 2, 3)), ("v2", (2, 0, 0)), ("1.2.3-rc.1+x", (1, 2, 3)), ("3.08", (3, 8, 0)), (1.5, (1, 5, 0)),
     ("", None), ("x", None), ("1.x", None), (None, None), ("9" * 5000, None)],
)  # fmt: skip
def test_versions(value: Any, expected: Any) -> None:
    """Versions are read from their numbers; leading zeros of mobile apps too, as the flag service reads them."""
    assert version_of(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("Ä", "Ä"), (1.0, "1.0"), (1e16, "1e+16"), (1e-5, "0.00001"), (1e-7, "1e-7"), (None, "null"), (True, "true"),
     ({"b": [1, "x"], "a": None}, '{"a":null,"b":[1,"x"]}')],
)  # fmt: skip
def test_texts(value: Any, expected: str) -> None:
    """A value is compared as the text that the flag service makes of it."""
    assert text_of(value) == expected
