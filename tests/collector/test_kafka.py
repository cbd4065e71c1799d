"""Product data through a real Kafka broker: agent → Collector → Kafka → Collector → gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.collector import CONFIGURATIONS, Collector
from tests.fixtures.collector_senders import GATEWAY_TOKEN, SENDER_TOKEN, Oracle, post, request_of
from tests.fixtures.kafka import Kafka
from tests.fixtures.otlp_receiver import OtlpReceiver


@pytest.mark.timeout(240)
def test_kafka_holds_what_the_gateway_cannot_take(large_collector_binary: Path, tmp_path: Path) -> None:
    """Gateway down, Collector killed, broker stopped and started: all that was acknowledged arrives, by partition key.

    The agent takes data all the while; what is acknowledged to the agent's sender is the obligation.
    """
    gateway, backend = OtlpReceiver(token=GATEWAY_TOKEN), OtlpReceiver()
    tier_settings = {
        "COLLECTOR_TOKEN": SENDER_TOKEN,
        "GATEWAY_TOKEN": GATEWAY_TOKEN,
        "QUEUE_DIR": str(tmp_path / "tier"),
        "GATEWAY_ENDPOINT": gateway.url,
        "OBSERVABILITY_ENDPOINT": backend.url,
        "KAFKA_CREATE_TOPICS": "true",
    }
    with Kafka(tmp_path / "kafka") as kafka, backend:
        tier_settings["KAFKA_BROKERS"] = kafka.brokers
        files = [CONFIGURATIONS / "otelcol-gateway.yaml", CONFIGURATIONS / "otelcol-kafka.yaml"]
        with Collector(files, tier_settings, binary=large_collector_binary, log=tmp_path / "tier.log") as tier:
            agent_settings = {
                "COLLECTOR_TOKEN": SENDER_TOKEN,
                "TIER_ENDPOINT": tier.ports.http_url,
                "QUEUE_DIR": str(tmp_path / "agent"),
            }
            with Collector(
                CONFIGURATIONS / "otelcol-agent.yaml",
                agent_settings,
                binary=large_collector_binary,
                log=tmp_path / "agent.log",
            ) as agent:
                oracle = Oracle(agent.ports)
                assert post(agent.ports, request_of(["plain"], tagged=False)) == 200
                assert [oracle.send() for _ in range(10)] == [200] * 10
                # Into Kafka, while the gateway is away.
                tier.kill()
                tier.start()
                assert [oracle.send() for _ in range(10)] == [200] * 10
                gateway.start()
                gateway.wait(lambda: oracle.met_by(gateway), 60)
                # And a broker that goes away for a while.
                kafka.kill()
                assert [oracle.send() for _ in range(5)] == [200] * 5
                kafka.start()
                gateway.wait(lambda: oracle.met_by(gateway), 90)
                assert len(oracle.acknowledged) == 125
                assert {span.name for span in gateway.spans} == oracle.acknowledged
                agent.kill()
            tier.kill()
        gateway.stop()
