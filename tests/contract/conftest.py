"""The scripted servers of the delivery tests, for every implementation of a protocol."""

from tests.unit.delivery.loopback import server
from tests.unit.delivery.secured import secured

__all__ = ["secured", "server"]
