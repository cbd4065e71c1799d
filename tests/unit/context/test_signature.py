"""Signatures over baggage: who has the secret is believed, for a while, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.config.settings import Secret
from otel_posthog.context.signature import MEMBER, is_fresh, sign, signed_at

ONE, TWO = Secret("0123456789abcdef-one"), Secret("0123456789abcdef-two")
NOW = 1_800_000_000.5
MEMBERS = {"posthog.distinct_id": "u1", "posthog.groups": "company=acme"}


def signed(members: dict[str, str], secret: Secret = ONE) -> dict[str, Any]:
    """With its signature."""
    return {**members, MEMBER: sign(members, secret, NOW)}


def test_a_signature_counts_where_the_secret_is() -> None:
    """With any of the secrets that are known, so that they can be rotated."""
    assert signed_at(signed(MEMBERS), [ONE]) == 1_800_000_000
    assert signed_at(signed(MEMBERS, TWO), [ONE, TWO]) == 1_800_000_000
    assert signed_at(signed(MEMBERS, TWO), [ONE]) is None
    assert signed_at(signed(MEMBERS), []) is None


@pytest.mark.parametrize(
    "change",
    [
        {"posthog.distinct_id": "u2"},
        {"posthog.distinct_id": None},
        {"posthog.groups": "company=other"},
        {"posthog.session_id": "s"},
        {"posthog.flags": "beta"},
        {"posthog.properties": "plan=pro"},
        {"posthog.anonymous_id": "a"},
        {MEMBER: None},
        {MEMBER: ""},
        {MEMBER: "1.1800000000."},
        {MEMBER: "1.1800000001." + sign(MEMBERS, ONE, NOW).rpartition(".")[2]},
        {MEMBER: "2.1800000000." + sign(MEMBERS, ONE, NOW).rpartition(".")[2]},
        {MEMBER: "1.-5.x"},
        {MEMBER: "1.٣.x"},
        {MEMBER: "1.1.\ud800"},
        {MEMBER: "1." + "9" * 90},
        {MEMBER: 5},
    ],
)
def test_any_change_breaks_it(change: dict[str, Any]) -> None:
    """Another value, one more, one less, another time."""
    members = {k: v for k, v in {**signed(MEMBERS), **change}.items() if v is not None}
    assert signed_at(members, [ONE]) is None


def test_members_of_others_do_not_matter() -> None:
    """What else is in the baggage is nobody's business here."""
    assert signed_at({**signed(MEMBERS), "user.id": "7"}, [ONE]) is not None


@given(st.dictionaries(st.sampled_from(["posthog.distinct_id", "posthog.flags"]), st.text()), st.text(), st.text())
def test_texts_do_not_run_into_each_other(members: dict[str, str], left: str, right: str) -> None:
    """No text moves from one member into the next with the same signature."""
    first = {**members, "posthog.groups": left, "posthog.properties": right}
    second = {**members, "posthog.groups": right, "posthog.properties": left}
    assert (sign(first, ONE, NOW) == sign(second, ONE, NOW)) == (left == right)


@pytest.mark.parametrize(
    ("moment", "good"), [(NOW - 299, True), (NOW - 301, False), (NOW + 59, True), (NOW + 61, False)]
)
def test_a_signature_ages(moment: float, good: bool) -> None:
    """It counts for its time, and from a clock that is a little ahead."""
    assert is_fresh(int(moment), NOW, 300.0) is good
