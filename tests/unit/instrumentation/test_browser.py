"""What a browser claims: posthog-js's headers, and its cookie."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.instrumentation.browser import HEADERS, Claim, claim_of
from tests.unit.instrumentation.conftest import ADA

SESSION = "01990000-0000-7000-8000-0000000000ff"


def claimed(headers: dict[str, str] | None = None, cookies: str | None = None, key: str = "") -> Claim:
    """What a request with these headers claims."""
    return claim_of([(headers or {}).get(name) for name in HEADERS], cookies, project_key=key)


def cookie(name: str = "phc_a", **data: Any) -> str:
    """posthog-js's cookie."""
    return f"a=b; ph_{name}_posthog={quote(json.dumps(data))}; c=d"


def test_headers() -> None:
    """All three, and the cookie is not looked at beside them."""
    headers = {"x-posthog-distinct-id": ADA, "x-posthog-session-id": SESSION, "x-posthog-window-id": "w"}

    assert claimed(headers, cookie(distinct_id="other")) == Claim(ADA, SESSION, "w")


@pytest.mark.parametrize("said", ["", "anonymous", "a\nb", "x" * 500])
def test_headers_that_name_nobody(said: str) -> None:
    """Illegal ids, control characters and endless ones count as absent."""
    assert claimed({"x-posthog-distinct-id": said}) == Claim()


@pytest.mark.parametrize(
    ("said", "anonymous"),
    [
        (Claim(ADA), ADA),
        (Claim(ADA.upper()), ADA.upper()),
        (Claim(ADA, identified=True), ""),
        (Claim("42"), ""),
        (Claim("0b9f4e0e-3c50-4b6e-8a4f-4c6f43f1c9aa"), ""),
    ],
)
def test_what_may_become_somebody_s(said: Claim, anonymous: str) -> None:
    """Only an id as posthog-js makes it for visitors: others may be the id of a user who left."""
    assert said.anonymous_id == anonymous


def test_the_cookie() -> None:
    """Id, whether it is a person's, and the session while it goes on."""
    now = int(time.time() * 1000)

    assert claimed(cookies=cookie(distinct_id=ADA, **{"$sesid": [now, SESSION, now]})) == Claim(ADA, SESSION)
    assert claimed(cookies=cookie(distinct_id=ADA, **{"$sesid": [now - 31 * 60_000, SESSION, now]})) == Claim(ADA)
    assert claimed(cookies=cookie(distinct_id="7", **{"$user_state": "identified"})) == Claim("7", identified=True)


def test_whose_cookie() -> None:
    """That of the project, where its key is known; the only one, where it is not."""
    one, two = cookie("phc_a", distinct_id="ada"), cookie("phc_b", distinct_id="grace")

    assert claimed(cookies=f"{one}; {two}", key="phc_b").distinct_id == "grace"
    assert claimed(cookies=f"{one}; {two}").distinct_id == ""
    assert claimed(cookies=one, key="phc_b").distinct_id == ""
    assert claimed(cookies=cookie("aPLbSLcEQ", distinct_id="ada"), key="a+b/c=").distinct_id == "ada"


def test_who_opted_out_is_not_followed() -> None:
    """posthog-js keeps the choice in a cookie of its own."""
    assert claimed(cookies=f"__ph_opt_in_out_phc_a=0; {cookie(distinct_id=ADA)}") == Claim()
    assert claimed(cookies=f"__ph_opt_in_out_phc_a=1; {cookie(distinct_id=ADA)}") == Claim(ADA)


@given(st.text(alphabet=st.characters(codec="latin-1"), max_size=200))
def test_any_cookie(text: str) -> None:
    """Whatever stands there, it is read without an error, and names nobody by chance."""
    assert claimed(cookies=f"ph_phc_a_posthog={text}").distinct_id == ""


@pytest.mark.parametrize("value", ["[]", "null", "1", '{"distinct_id": 7}', '{"$sesid": 1}', "{", "[" * 9000])
def test_cookies_that_are_none(value: str) -> None:
    """Other JSON, or none."""
    assert claimed(cookies=f"ph_phc_a_posthog={quote(value)}") == Claim()
