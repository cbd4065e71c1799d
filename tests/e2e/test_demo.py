"""`make demo ONCE=1`: what a newcomer sees first, as a whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inline_snapshot import snapshot

ROOT = Path(__file__).resolve().parents[2]


def normalised(output: str) -> str:
    """The output without what differs between two runs: times, random visitors, ports, counts of polls."""
    visitors: dict[str, str] = {}

    def visitor(found: re.Match[str]) -> str:
        return visitors.setdefault(found.group(), f"visitor-{len(visitors) + 1:016d}")

    text = re.sub(r"visitor-[0-9a-f]{16}", visitor, output)
    text = re.sub(r"\d\d:\d\d:\d\d\.\d{3}(?=  )", "hh:mm:ss.mmm", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+", "yyyy-mm-ddThh:mm:ss.mmmmmm", text)
    text = re.sub(r"(127\.0\.0\.1:|--port )\d+", r"\1PORT", text)
    text = re.sub(r"\d+ spans and \d+ log", "N spans and N log", text)
    # Two requests overlap by the microseconds between an answer and the end of its span: order is not ours to promise.
    head, rows, rest = re.split(r"(?<=──\n)(.*?)(?=\n\nPeople)", text, maxsplit=1, flags=re.DOTALL)
    return head + "\n".join(sorted(rows.split("\n"))) + rest


@pytest.mark.timeout(120)
def test_the_demo_shows_what_posthog_sees(tmp_path: Path) -> None:
    """The journey's events, people, companies and the error are printed, nothing is on stderr, and it ends with 0."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/shop/demo.py"), "--once"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        timeout=100,
        check=False,
    )

    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert normalised(done.stdout.decode()) == snapshot("""\
Starting the shop:

    export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:PORT/i
    export OTEL_EXPORTER_OTLP_TOKEN=phc_demo
    opentelemetry-instrument flask --app shop run --port PORT


Events
  time          event           person                    what
  ────────────  ──────────────  ────────────────────────  ───────────────────────────────────────────
  hh:mm:ss.mmm  $exception      1                         OutOfStock: 10 × tent ordered, 3 left
  hh:mm:ss.mmm  $groupidentify  1                         company Alpine Ltd
  hh:mm:ss.mmm  $groupidentify  2                         company Basecamp GmbH
  hh:mm:ss.mmm  $identify       1                         was visitor-0000000000000001
  hh:mm:ss.mmm  $identify       1                         was visitor-0000000000000002
  hh:mm:ss.mmm  $identify       2                         was visitor-0000000000000003
  hh:mm:ss.mmm  $pageview       1                         GET  /  Firefox  Desktop
  hh:mm:ss.mmm  $pageview       1                         GET  /  Mobile Safari  Mobile
  hh:mm:ss.mmm  $pageview       2                         GET  /  Firefox  Desktop
  hh:mm:ss.mmm  $pageview       visitor-0000000000000001  GET  /  Firefox  Desktop
  hh:mm:ss.mmm  $pageview       visitor-0000000000000001  GET  /products/mug  Firefox  Desktop
  hh:mm:ss.mmm  $pageview       visitor-0000000000000002  GET  /products/stove  Mobile Safari  Mobile
  hh:mm:ss.mmm  $pageview       visitor-0000000000000003  GET  /products/tent  Firefox  Desktop
  hh:mm:ss.mmm  api_request     1                         POST  /checkout  Firefox  Desktop
  hh:mm:ss.mmm  api_request     1                         POST  /checkout  Firefox  Desktop
  hh:mm:ss.mmm  api_request     1                         POST  /checkout  Mobile Safari  Mobile
  hh:mm:ss.mmm  api_request     1                         POST  /login  Mobile Safari  Mobile
  hh:mm:ss.mmm  api_request     1                         POST  /signup  Firefox  Desktop
  hh:mm:ss.mmm  api_request     2                         POST  /checkout  Firefox  Desktop
  hh:mm:ss.mmm  api_request     2                         POST  /signup  Firefox  Desktop
  hh:mm:ss.mmm  api_request     visitor-0000000000000003  POST  /login  Firefox  Desktop
  hh:mm:ss.mmm  order paid      1                         mug  2  29.0  EUR
  hh:mm:ss.mmm  order paid      1                         stove  1  38.0  EUR
  hh:mm:ss.mmm  order paid      2                         tent  1  219.0  EUR
  hh:mm:ss.mmm  sign-in failed  visitor-0000000000000003
  hh:mm:ss.mmm  user signed in  1
  hh:mm:ss.mmm  user signed up  1                         pro
  hh:mm:ss.mmm  user signed up  2                         free

People
  events  properties                                          known as
  ──────  ──────────────────────────────────────────────────  ─────────────────────────────────────────────────────
  10      plan=free  signed_up_at=yyyy-mm-ddThh:mm:ss.mmmmmm  2, visitor-0000000000000003
  18      plan=pro  signed_up_at=yyyy-mm-ddThh:mm:ss.mmmmmm   1, visitor-0000000000000001, visitor-0000000000000002

Companies
  company        events  properties
  ─────────────  ──────  ──────────────────
  Alpine Ltd     13      name=Alpine Ltd
  Basecamp GmbH  7       name=Basecamp GmbH

Errors
  issue                                  times  users  at
  ─────────────────────────────────────  ─────  ─────  ──────────────────────
  OutOfStock: 10 × tent ordered, 3 left  1      1      shop.py:177 in reserve

Behind them: N spans and N log records in PostHog's own tracing and logs.

The local PostHog is at http://127.0.0.1:PORT, the shop at http://127.0.0.1:PORT
""")
