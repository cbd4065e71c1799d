"""Run as a script by `test_worker.py`: a process of its own, whose events are appended to a file as they are taken.

python process.py FILE SCENARIO
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from otel_posthog.assembly import Runtime
from otel_posthog.bridge import Bridge
from otel_posthog.config.settings import ConvertConfig, DeliveryConfig, Lane, Mode, Secret, Settings
from otel_posthog.convert import Converter
from otel_posthog.delivery import DeliveryStats
from otel_posthog.observe import Guard
from otel_posthog.policy import Policy
from otel_posthog.rules import RuleSet
from otel_posthog.sdk.processor import PostHogSpanProcessor


class FileDelivery:
    """Writes what it takes to a file, with the process that took it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def submit(self, events: Sequence[Any], receipt: object = None) -> bool:
        """Appends; one write for each call, so that processes do not mix."""
        lines = "".join(json.dumps({"event": event.event, "pid": os.getpid()}) + "\n" for event in events)
        with self.path.open("a") as file:
            file.write(lines)
        return True

    def flush(self, timeout: float) -> bool:
        """Nothing waits."""
        return True

    def shutdown(self, timeout: float) -> bool:
        """Nothing waits."""
        return True

    def stats(self) -> DeliveryStats:
        """Nobody asks."""
        return DeliveryStats()


def main(path: Path, scenario: str) -> None:
    """Runs one scenario."""
    settings = Settings(
        enabled=True,
        lane=Lane(Mode.DIRECT, "http://127.0.0.1:9", Secret("phc_test")),
        delivery=DeliveryConfig(exit_timeout=30.0),
    )
    guard, rules = Guard(), RuleSet()
    bridge = Bridge(Converter(ConvertConfig(), rules), Policy(), FileDelivery(path), guard=guard)
    processor = PostHogSpanProcessor(runtime=Runtime(settings=settings, rules=rules, bridge=bridge, guard=guard))
    provider = TracerProvider(shutdown_on_exit=scenario != "no shutdown")
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("x")

    def capture(name: str) -> None:
        with tracer.start_as_current_span("x", attributes={"posthog.event": name}):
            pass

    if scenario == "fork":
        capture("parent before")
        child = os.fork()
        if child == 0:
            waiting = processor.stats().waiting
            capture("child")
            processor.force_flush()
            os._exit(waiting)
        _, status = os.waitpid(child, 0)
        assert status == 0
        capture("parent after")
    elif scenario == "fork with a busy worker":
        # Locks of the parent are held by other threads at the moment of the fork.
        worker = processor._edge.worker
        capture("parent")
        held = threading.Event()
        release = threading.Event()

        def hold() -> None:
            with worker._sync.work:
                held.set()
                release.wait(60)

        threading.Thread(target=hold, daemon=True).start()
        assert held.wait(60)
        child = os.fork()
        if child == 0:
            capture("child")
            os._exit(0 if processor.force_flush(50_000) else 1)
        _, status = os.waitpid(child, 0)
        release.set()
        assert status == 0
    elif scenario == "open root at exit":
        root = tracer.start_span("root")
        from opentelemetry import trace

        with trace.use_span(root):
            capture("waiting")
    elif scenario == "thread at exit":
        thread = threading.Thread(target=lambda: [capture(f"n{number}") for number in range(200)])
        thread.start()
    else:
        capture("one")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
