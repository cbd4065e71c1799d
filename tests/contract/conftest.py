"""The servers of other tests, for every implementation of a protocol."""

from tests.fixtures.collector import collector_binary
from tests.unit.delivery.loopback import server
from tests.unit.delivery.secured import secured
from tests.unit.gateway.receivers.rig import start

__all__ = ["collector_binary", "secured", "server", "start"]
