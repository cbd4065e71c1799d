"""A local PostHog for one test, with the process set up to send there."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from otel_posthog.config import environment as names

if TYPE_CHECKING:
    from otel_posthog.emulator import Emulator

FLAGS_TIMEOUT: Final = "30"
"""Seconds: a busy machine must not turn an answer into a default."""
_EXIT: Final = 30.0


@contextmanager
def emulating(setenv: Callable[[str, str], Any], delenv: Callable[[str], Any]) -> Generator[Emulator]:
    """Serves a local PostHog, and has calls and spans of this process go there, as in production.

    Args:
        setenv: Sets a variable of the environment; the caller takes it back.
        delenv: The same, removes one.

    Raises:
        ConfigError: The packages of the extra `emulator` are missing.
    """
    from otel_posthog.config.load import load_settings
    from otel_posthog.emulator import Emulator
    from otel_posthog.lane.edge import edge_of, suppressed
    from otel_posthog.testing.attaching import Attachment, attach_lines
    from otel_posthog.testing.capturing import KEPT, PROJECT, enter_context, put_runtime

    with Emulator() as emulator, ExitStack() as undo:
        for name in tuple(os.environ):
            if name.startswith(("OTEL_EXPORTER_OTLP_", "OTEL_POSTHOG_")) and name not in KEPT:
                delenv(name)
        setenv(names.ENDPOINT, emulator.endpoint)
        setenv(names.TOKEN, PROJECT)
        setenv("OTEL_POSTHOG_FLAGS_TIMEOUT", FLAGS_TIMEOUT)
        from otel_posthog.assembly import build_runtime

        runtime = build_runtime(load_settings(), send_guard=suppressed)
        enter_context(undo)
        put_runtime(runtime, undo)
        attachment = Attachment(runtime, undo)
        attachment.attach_global()
        attach_lines(undo)
        undo.callback(edge_of(runtime).worker.shutdown, _EXIT)
        yield emulator


__all__ = ["FLAGS_TIMEOUT", "emulating"]
