"""Two real gateways behind the tier: what belongs together is told together, and a rule's span finds its way."""

from __future__ import annotations

import contextlib
import io
import traceback
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.trace import Status, StatusCode

from otel_posthog.cli.main import main
from otel_posthog.emulator import Emulator
from tests.collector.test_by_trace_id import OVERLAY
from tests.fixtures.collector import CONFIGURATIONS, Collector
from tests.fixtures.collector_senders import SENDER_TOKEN, START, sdk
from tests.fixtures.gateway import TOKEN, GatewayProcess

RULES = """
rules:
  - name: subscribed
    match: {name: {glob: "newsletter *"}, attributes: {list: {regex: "^(weekly|daily)$"}}}
    capture: newsletter subscribed
"""


@pytest.mark.timeout(180)
def test_an_exception_on_span_and_log_is_one_event(large_collector_binary: Path, tmp_path: Path) -> None:
    """Twenty traces, each with an exception on its span and in a log record, and a span that a rule matches.

    The record says another day, so that nothing but a gateway that sees both can tell that they are one.
    """
    (tmp_path / "rules.yaml").write_text(RULES)
    project = {"rules": [str(tmp_path / "rules.yaml")]}
    with (
        Emulator() as posthog,
        GatewayProcess(tmp_path / "one", posthog.url, project=project) as one,
        GatewayProcess(tmp_path / "two", posthog.url, project=project) as two,
    ):
        hosts = f"'{one.grpc_target}', '{two.grpc_target}'"
        (tmp_path / "overlay.yaml").write_text(OVERLAY.format(hosts=hosts))
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            assert main(["rules", "collector-filter", "--gateway", str(tmp_path / "one" / "bridge.yaml")]) == 0
        (tmp_path / "filter.yaml").write_text(written.getvalue())
        files = [
            CONFIGURATIONS / "otelcol-gateway.yaml",
            CONFIGURATIONS / "by-trace-id-gateway.yaml",
            tmp_path / "overlay.yaml",
            tmp_path / "filter.yaml",
        ]
        settings = {
            "COLLECTOR_TOKEN": SENDER_TOKEN,
            "GATEWAY_TOKEN": TOKEN,
            "GATEWAY_INSECURE": "true",
            "QUEUE_DIR": str(tmp_path / "queue"),
            "OBSERVABILITY_ENDPOINT": "http://127.0.0.1:1",
        }
        with (
            Collector(files, settings, binary=large_collector_binary, log=tmp_path / "collector.log") as collector,
            sdk(collector) as (tracers, loggers),
        ):
            tracer, logger = tracers.get_tracer("shop"), loggers.get_logger("shop")
            for number in range(20):
                with tracer.start_as_current_span("request", attributes={"user.id": f"u{number}"}) as span:
                    try:
                        raise ValueError(f"no {number}")
                    except ValueError as error:
                        span.record_exception(error)
                        span.set_status(Status(StatusCode.ERROR))
                        said = {
                            "exception.type": "ValueError",
                            "exception.message": str(error),
                            "exception.stacktrace": traceback.format_exc(),
                            "user.id": f"u{number}",
                        }
                    logger.emit(
                        LogRecord(
                            timestamp=START + number,
                            severity_number=SeverityNumber.ERROR,
                            body="failed",
                            attributes=said,
                        )
                    )
                for kind in ("weekly", "never"):
                    tracer.start_span(f"newsletter {number}", attributes={"list": kind}).end()
            posthog.wait_for(lambda emulator: len(emulator.events()) >= 40, timeout=60)
            # In order, so that all is away: the Collector first, then the gateways.
            collector.stop()
        assert (one.stop(), two.stop()) == (0, 0)
        events = posthog.events()
    assert Counter(event["event"] for event in events) == {"$exception": 20, "newsletter subscribed": 20}
    assert len({event["uuid"] for event in events}) == 40
