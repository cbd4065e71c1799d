"""What the tests with a real Collector share."""

from __future__ import annotations

from tests.fixtures.collector import collector_binary, large_collector_binary

__all__ = ["collector_binary", "large_collector_binary"]
