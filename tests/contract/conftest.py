"""The scripted server of the delivery tests, for every implementation of a protocol."""

from tests.unit.delivery.loopback import server

__all__ = ["server"]
