"""Fixtures of the delivery tests: a scripted server on loopback, and deliveries whose books must balance."""

from tests.unit.delivery.loopback import deliver, server

__all__ = ["deliver", "server"]
