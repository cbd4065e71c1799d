"""`make demo-collector`: the shop again, through a real OpenTelemetry Collector and `otel-posthog gateway`.

    shop ──────────────┐
                       ├─► Collector (collector/otelcol-gateway.yaml) ─► otel-posthog gateway ─► local PostHog
    curl, any language ┘

Starts the local PostHog, the gateway, the Collector and the shop, prints the commands that it uses, clicks through the
shop, sends one span as a program of any language would, and prints what arrived. The shop holds no PostHog key.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from otel_posthog.emulator import Emulator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "examples" / "shop"))

import demo as shop_demo  # noqa: E402 - the shop's own driver, found by path

CONFIGURATIONS = ("collector/otelcol-gateway.yaml", "examples/collector/traces-to-posthog.yaml")
SENDERS = "token-of-the-services"
GATEWAYS = "token-of-the-collectors"


def send(url: str) -> None:
    """One span from a program that has no SDK at all: `curl --json @checkout.json` in Python's words."""
    request = json.loads((HERE / "checkout.json").read_text(encoding="utf-8"))
    span = request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["endTimeUnixNano"] = str(time.time_ns())
    span["startTimeUnixNano"] = str(time.time_ns() - 250_000_000)
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SENDERS}"}
    answer = json.load(urllib.request.urlopen(urllib.request.Request(f"{url}/v1/traces", body, headers), timeout=10))
    assert answer in ({}, {"partialSuccess": {}}), answer


def everything_arrived(posthog: Emulator) -> bool:
    """What the shop's journey causes, and the sale at the till; traces leave the Collector a second later."""
    sold = bool(posthog.events(event="sold at the till"))
    return sold and shop_demo.everything_arrived(posthog) and len(posthog.spans()) > 50


def main() -> int:
    """Runs the demo; the exit code is 1 when something did not arrive."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collector", type=Path, help="the Collector's binary; `make collector` builds one")
    parser.add_argument("--once", action="store_true", help="print what arrived and leave")
    arguments = parser.parse_args()
    if not arguments.collector.exists():
        sys.exit(f"There is no {arguments.collector}: run `make collector` first (it needs Go 1.25)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    http, grpc, admin, otlp_http, otlp_grpc, health, metrics = (
        shop_demo.free_port(wanted) for wanted in (14318, 14317, 14319, 4318, 4317, 13133, 8888)
    )
    gateway_command = [str(Path(sys.executable).parent / "otel-posthog"), "gateway"]
    gateway_command += ["--http", f"127.0.0.1:{http}", "--grpc", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]
    with tempfile.TemporaryDirectory() as folder, Emulator(port=shop_demo.free_port(shop_demo.PORT)) as posthog:
        gateway_variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": posthog.url,
            "OTEL_EXPORTER_OTLP_TOKEN": shop_demo.TOKEN,
            "OTEL_POSTHOG_MODE": "direct",
            "OTEL_POSTHOG_GATEWAY_TOKENS": GATEWAYS,
            "OTEL_POSTHOG_SPOOL_DIR": f"{folder}/spool",
        }
        collector_variables = {
            "GATEWAY_ENDPOINT": f"http://127.0.0.1:{http}",
            "GATEWAY_TOKEN": GATEWAYS,
            "COLLECTOR_TOKEN": SENDERS,
            "QUEUE_DIR": f"{folder}/queue",
            "POSTHOG_OTLP_ENDPOINT": posthog.endpoint,
            "POSTHOG_PROJECT_KEY": shop_demo.TOKEN,
            "TRACE_PERCENTAGE": "100",
            "DECISION_WAIT": "1s",
            "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{otlp_http}",
            "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{otlp_grpc}",
            "HEALTH_ENDPOINT": f"127.0.0.1:{health}",
            "METRICS_PORT": str(metrics),
        }
        collector_command = [str(arguments.collector), *(f"--config={each}" for each in CONFIGURATIONS)]
        with (
            shop_demo.Program("The gateway", gateway_command, gateway_variables) as gateway,
            shop_demo.Program("The Collector", collector_command, collector_variables) as collector,
        ):
            gateway.wait_for(f"http://127.0.0.1:{admin}/readyz")
            collector.wait_for(f"http://127.0.0.1:{health}/")
            url = f"http://127.0.0.1:{otlp_http}"
            with shop_demo.Shop(url, SENDERS) as shop:
                shop.wait_until_up()
                shop_demo.journey(shop.url)
                send(url)
                try:
                    posthog.wait_for(everything_arrived, timeout=shop_demo.WAIT)
                except TimeoutError as error:
                    logs = "\n\n".join(f"{each.name}'s log:\n{each.log()}" for each in (gateway, collector))
                    print(
                        f"Not everything arrived: {error}\n\n{logs}\n\nThe shop's log:\n{shop.log()}", file=sys.stderr
                    )
                    return 1
                shop_demo.show(posthog)
                print(f"\nThe local PostHog is at {posthog.url}, the shop at {shop.url}")
                print(f"The gateway's health: http://127.0.0.1:{admin}/readyz?verbose, its live events:")
                print(f"    otel-posthog tail --url http://127.0.0.1:{admin}")
                if not arguments.once:
                    print("Ctrl-C ends them all.")
                    try:
                        shop.process.wait()
                    except KeyboardInterrupt:
                        print()
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
