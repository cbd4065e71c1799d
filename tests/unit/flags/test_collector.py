"""In collector mode an evaluation travels as a finished event: an OTLP log record, with no key of PostHog's in it."""

from __future__ import annotations

import pytest

from otel_posthog import flags
from otel_posthog.api.capture import capture
from otel_posthog.api.control import flush, shutdown
from otel_posthog.config.settings import ConvertConfig
from otel_posthog.context import working
from otel_posthog.context.ambient import Ambient
from otel_posthog.convert import Converter
from otel_posthog.emulator import Emulator
from otel_posthog.gateway.decode.request import PROTOBUF, decode_logs
from otel_posthog.model import CaptureEvent
from otel_posthog.rules import RuleSet
from tests.unit.flags.conftest import Start

proto = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")

from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs  # noqa: E402

from tests.fixtures.otlp_receiver import OtlpReceiver  # noqa: E402


def at_the_gateway(collector: OtlpReceiver) -> list[CaptureEvent]:
    """What a gateway behind the Collector makes of its log records."""
    request = proto.ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=collector.logs)])]
    )
    signals = decode_logs(request.SerializeToString(), content_type=PROTOBUF)
    convert = Converter(ConvertConfig(honour_carrier=True), RuleSet()).convert
    return [event for signal in signals for event in convert(signal).events]


def test_a_flag_call_passes_a_collector(start: Start, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with PostHog's own properties; later events carry the value; PostHog itself gets nothing from us."""
    start()
    with OtlpReceiver(token="of-the-collector") as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "of-the-collector")
        monkeypatch.setenv("OTEL_POSTHOG_FLAGS_HOST", emulator.url)
        monkeypatch.setenv("OTEL_POSTHOG_FLAGS_TOKEN", "phc_flags")
        with working(Ambient(distinct_id="ada", groups={"company": "acme"})):
            assert flags.variant("timer-ui-experiment") == "variant-b"
            assert flags.variant("timer-ui-experiment") == "variant-b"
            capture("paid")
        assert flush(30)

        called, paid = at_the_gateway(collector)
        assert (called.event, called.distinct_id) == ("$feature_flag_called", "ada")
        said = called.properties
        assert (said["$feature_flag"], said["$feature_flag_response"]) == ("timer-ui-experiment", "variant-b")
        assert said["$feature_flag_payload"] == {"colour": "blue"}
        assert said["$groups"] == {"company": "acme"}
        assert said["$feature_flag_request_id"]
        assert (paid.event, paid.properties["$feature/timer-ui-experiment"]) == ("paid", "variant-b")
        assert b"phc_flags" not in b"".join(record.SerializeToString() for record in collector.logs)
        assert emulator.events() == []
        shutdown(30)
