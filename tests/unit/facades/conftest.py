"""A local PostHog that serves flags, and a process that asks it and sends to it."""

from __future__ import annotations

from tests.unit.flags.conftest import _fresh_process, emulator, running, serving, start

__all__ = ["_fresh_process", "emulator", "running", "serving", "start"]
