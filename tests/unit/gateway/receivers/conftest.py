"""Receivers that run."""

from tests.unit.gateway.receivers.rig import start

__all__ = ["start"]
