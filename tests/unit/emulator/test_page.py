"""The page in a real browser: what it shows, and that hostile data stays text."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_posthog.emulator import Emulator

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

HOSTILE = "<img src=x onerror=\"document.body.dataset.pwned='1'\"><script>document.body.dataset.pwned='2'</script>"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def browser() -> None:
    """Skips with a reason where there is no browser, fails where everything is required."""
    if BROWSER is None:
        if os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") == "1":
            pytest.fail("chromium is required (OTEL_POSTHOG_REQUIRE_ALL=1) and not installed")
        pytest.skip("chromium is not installed")


@pytest.fixture(scope="module")
def filled() -> Iterator[Emulator]:
    """An emulator with ordinary and hostile data."""
    import json

    import urllib3

    frame = {"platform": "python", "filename": "shop/cart.py", "function": "pay", "lineno": 7, "in_app": True}
    frame |= {"pre_context": ["def pay():"], "context_line": "    raise ValueError(total)", "post_context": [HOSTILE]}
    library = {"platform": "python", "filename": "flask/app.py", "function": "wsgi", "in_app": False}
    events = [
        {"event": "order paid", "distinct_id": "ada", "uuid": "0190a0b0-0000-7000-8000-000000000001",
         "properties": {"total": 12.5, "environment": "production", "http_route": "/pay",
                        "$groups": {"company": "acme"}, "$set": {"email": "ada@example.com"}}},
        {"event": HOSTILE, "distinct_id": HOSTILE, "uuid": "0190a0b0-0000-7000-8000-000000000002",
         "properties": {HOSTILE: HOSTILE, "nested": {"deep": [HOSTILE]}, "$set": {HOSTILE: HOSTILE}}},
        {"event": "$feature_flag_called", "distinct_id": "ada", "uuid": "0190a0b0-0000-7000-8000-000000000004",
         "properties": {"$feature_flag": "colour", "$feature_flag_response": "green"}},
        {"event": "$feature_flag_called", "distinct_id": "bob", "uuid": "0190a0b0-0000-7000-8000-000000000005",
         "properties": {"$feature_flag": HOSTILE, "$feature_flag_response": HOSTILE}},
        {"event": "$exception", "distinct_id": "ada", "uuid": "0190a0b0-0000-7000-8000-000000000003",
         "properties": {"$exception_list": [
             {"type": "ValueError", "value": HOSTILE, "stacktrace": {"type": "raw", "frames": [library, frame]}}]}},
    ]  # fmt: skip
    span = {"traceId": TRACE_ID, "spanId": "b7ad6b7169203331", "name": HOSTILE, "startTimeUnixNano": "1000",
            "endTimeUnixNano": "5000000"}  # fmt: skip
    traces = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    colour = {"variants": {"green": 30, HOSTILE: 70}, "payloads": {"green": HOSTILE}, "name": HOSTILE, "owner": "shop"}
    colour["conditions"] = [{"properties": {"plan": ["pro", HOSTILE], "seats": {"gte": 5}}, "rollout_percentage": 12.5}]
    with Emulator(flags={"flags": {"colour": colour, "off": {"active": False, "expires": "2020-01-01"}}}) as emulator:
        pool = urllib3.PoolManager(retries=False)
        for _ in range(2):
            body = json.dumps({"api_key": "phc_never_shown_in_full", "batch": events}).encode()
            assert pool.request("POST", f"{emulator.url}/batch/", body=body).status == 200
        headers = {"Authorization": "Bearer phc_never_shown_in_full"}
        pool.request("POST", f"{emulator.url}/i/v1/traces", body=json.dumps(traces).encode(), headers=headers)
        record = {"body": {"stringValue": "charged the card"}, "severityText": "WARN", "timeUnixNano": "5000000"}
        logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        pool.request("POST", f"{emulator.url}/i/v1/logs", body=json.dumps(logs).encode(), headers=headers)
        pool.clear()
        yield emulator


def dump(url: str, folder: Path) -> str:
    """The document after the scripts ran."""
    assert BROWSER is not None
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --virtual-time-budget=4000 --dump-dom"
    done = subprocess.run(
        [BROWSER, *flags.split(), f"--user-data-dir={folder}", url], capture_output=True, timeout=150, check=False
    )
    return done.stdout.decode("utf-8", "replace")


def text_of(document: str) -> str:
    """What a reader sees, blanks folded."""
    body = re.sub(r"<(script|style|noscript).*?</\1>", " ", document, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


PAGES = {
    "events": ("#/events", ["5 events", "5 duplicates", "order paid", "received 2 times", "total=12.5", "Reset"]),
    "event": (
        "#/event/0190a0b0-0000-7000-8000-000000000001",
        ["order paid", "2 times, stored once", "company: acme", "total 12.5", "As it was sent"],
    ),
    "people": ("#/people", ["ada@example.com", "2"]),
    "person": ("#/people/ada", ["ada@example.com", "Distinct ids", "order paid", "$exception"]),
    "groups": ("#/groups", ["company acme", "no properties"]),
    "flags": (
        "#/flags",
        [
            "colour 12.5 % of those who match green 30 %",
            "green 1",
            "inactive",
            "expired",
            "never called",
            "Called, and not defined",
        ],
    ),
    "flag": (
        "#/flags/colour",
        ["seats ≥ 5", "plan is pro or", "12.5 %", "shop", "Payload", "colour → green"],
    ),
    "errors": ("#/errors", ["ValueError"]),
    "error": (None, ["ValueError", "pay in shop/cart.py :7 in app", "raise ValueError(total)", "wsgi in flask/app.py"]),
    "traces": ("#/traces", ["5.0 ms"]),
    "trace": (f"#/trace/{TRACE_ID}", [TRACE_ID, "1 span"]),
    "hostile event": ("#/event/0190a0b0-0000-7000-8000-000000000002", ["nested"]),
    "logs": ("#/logs", ["charged the card", "WARN"]),
    "refused": ("#/refused", ["Nothing was refused"]),
    "unknown": ("#/event/nope", ["There is no such event"]),
}


@pytest.mark.parametrize("name", PAGES)
def test_page(filled: Emulator, tmp_path: Path, name: str) -> None:
    """Each view shows its data; hostile text is shown as text and nothing of it runs or becomes an element."""
    route, expected = PAGES[name]
    route = route or f"#/errors/{filled.issues()[0]['id']}"

    document = dump(f"{filled.url}/?live=off{route}", tmp_path)

    seen = text_of(document)
    assert [part for part in expected if part not in seen] == []
    assert "data-pwned" not in document.split("<main", 1)[0]
    assert not re.search(r"<img[^>]*onerror", document)
    assert "phc_never_shown_in_full" not in document
    if name == "events":
        assert "environment" not in seen
        assert "http_route" not in seen
    if name in {"events", "hostile event", "error", "flags", "flag"}:
        assert HOSTILE in html.unescape(document)


def test_empty_page_tells_what_to_do(tmp_path: Path) -> None:
    """Before the first event the page shows ready-made ways to send one."""
    with Emulator() as emulator:
        seen = text_of(dump(f"{emulator.url}/?live=off", tmp_path))

    wanted = [
        "Nothing has arrived yet",
        f"OTEL_EXPORTER_OTLP_ENDPOINT={emulator.endpoint}",
        "from posthog import Posthog",
    ]
    assert [part for part in wanted if part not in seen] == []


def test_no_page_is_forgotten() -> None:
    """Every tab of the page has a row here."""
    source = (Path(__file__).parents[3] / "otel_posthog/emulator/static/app.js").read_text(encoding="utf-8")
    tabs = re.findall(r'\["(\w+)", "[A-Z]', source)

    assert len(tabs) == 8
    assert set(tabs) <= set(PAGES)
