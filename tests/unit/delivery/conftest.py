"""Fixtures of the delivery tests: scripted servers on loopback, and deliveries whose books must balance."""

from tests.unit.delivery.loopback import deliver, server
from tests.unit.delivery.secured import secured

__all__ = ["deliver", "secured", "server"]
