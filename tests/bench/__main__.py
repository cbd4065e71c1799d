"""`python -m tests.bench`: the in-process budgets of the design, as ratios against peers in one run (`make bench`).

See docs/benchmarks.md for the method. Exit status 1 with `--check` where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "bench-results"
GROUPS = ("spans", "api", "delivery", "import", "request", "gateway")
LONG = ("gateway-load",)
"""Minutes each: only when asked for."""


def main() -> int:
    """Measures, prints, stores; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds in place of nine")
    parser.add_argument("--rounds", type=int, help="rounds of each row")
    parser.add_argument("--only", choices=GROUPS + LONG, action="append", help="only these rows; may be repeated")
    parser.add_argument("--fast", action="store_true", help="with orjson and isal (the extra `fast`)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to store; default: bench-results/<time>.json")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args()
    _prepare(fast=arguments.fast)

    from tests.bench.harness import Row, markdown, table

    rounds = arguments.rounds or (3 if arguments.quick else 9)
    rows: list[Row] = []
    for row in _rows(arguments.only or GROUPS, rounds, fast=arguments.fast):
        print(f"… {row.name}: {row.value:.3f} {row.verdict}" if row.peer else f"… {row.name}", file=sys.stderr)
        rows.append(row)
    machine = _machine(rounds, fast=arguments.fast)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(markdown(rows) if arguments.markdown else table(rows))
    path = arguments.json or RESULTS / f"{machine['time'].replace(':', '')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": [_plain(row) for row in rows]}, indent=2) + "\n")
    missed = [row.name for row in rows if row.verdict == "MISSED"]
    if missed:
        print(f"\n{len(missed)} missed: " + "; ".join(missed))
    return 1 if missed and arguments.check else 0


def _prepare(*, fast: bool) -> None:
    for name in list(os.environ):
        # The machine's own set-up must neither open the gate nor add a proxy.
        if name.startswith(("OTEL_", "POSTHOG_")) or name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            del os.environ[name]
    if not fast:
        # What a plain `pip install otel-posthog` gives: the development environment has the extra's packages.
        for name in ("orjson", "isal"):
            sys.modules[name] = None  # type: ignore[assignment]
    logging.getLogger("posthog").setLevel(logging.CRITICAL)


def _rows(groups: Any, rounds: int, *, fast: bool) -> Iterator[Any]:
    from tests.bench import api, delivery, gateway, gateway_collector, gateway_load, importing, requests, spans
    from tests.bench.sink import sink

    with sink() as target:
        if "spans" in groups:
            yield from spans.rows(target.url, rounds)
        if "api" in groups:
            yield from api.rows(target.url, rounds)
        if "request" in groups:
            yield from requests.rows(target.url, rounds)
        if "delivery" in groups:
            yield from delivery.rows(target.url, rounds, fast=fast)
        if "import" in groups:
            yield from importing.rows(target.url, rounds)
        if "gateway" in groups:
            yield from gateway.rows(rounds)
            yield from gateway_collector.rows(target, rounds)
        if "gateway-load" in groups:
            yield from gateway_load.rows(target, seconds=10 if rounds <= 3 else 60)


def _machine(rounds: int, *, fast: bool) -> dict[str, str]:
    return {
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "opentelemetry-sdk": version("opentelemetry-sdk"),
        "posthog": version("posthog"),
        "rounds": str(rounds),
        "extra fast": "yes" if fast else "no",
    }


def _plain(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "peer": row.peer_name,
        "ours": row.ours,
        "peer_value": row.peer,
        "value": row.value,
        "min": min(row.values),
        "max": max(row.values),
        "target": row.target,
        "moonshot": row.moonshot,
        "verdict": row.verdict,
        "note": row.note,
        "unit": row.unit,
    }


if __name__ == "__main__":
    sys.exit(main())
