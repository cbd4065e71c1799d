"""The scripted servers of the delivery tests and the receivers' rig, for every implementation of a protocol."""

from tests.unit.delivery.loopback import server
from tests.unit.delivery.secured import secured
from tests.unit.gateway.receivers.rig import start

__all__ = ["secured", "server", "start"]
