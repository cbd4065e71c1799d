"""Headers variables are read as the SDK reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.util.re import parse_env_headers

from otel_posthog.config.headers import parse_headers, with_authorization


@given(st.text(st.sampled_from("aB-=,; \t%20\"'é:\n") | st.characters(max_codepoint=0x2FF), max_size=60))
def test_the_same_as_the_sdk(text: str) -> None:
    """Whatever is in the variable, our reading is the SDK's own."""
    assert parse_env_headers(text, liberal=True) == parse_headers(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a=1,A=2", {"a": "2"}),
        ("Authorization=Bearer%20x", {"authorization": "Bearer x"}),
        ("authorization=Bearer x", {"authorization": "Bearer x"}),
        ("authorization=Basic YWI6Yw==", {"authorization": "Basic YWI6Yw=="}),
        ("novalue,=x,b=", {"b": ""}),
    ],
)
def test_examples(text: str, expected: dict[str, str]) -> None:
    """The usual forms, and what is left out."""
    assert expected == parse_headers(text)


@given(
    text=st.text(st.sampled_from("ab=, %20-"), max_size=30),
    token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
)
def test_an_appended_authorization_loses_nothing(text: str, token: str) -> None:
    """The exporters read every entry that was there, and the authorization as it is."""
    before = parse_env_headers(text, liberal=True)

    after = parse_env_headers(with_authorization(text, f"Bearer {token}"), liberal=True)

    assert {**before, "authorization": f"Bearer {token}"} == after
