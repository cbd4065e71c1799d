"""What pytest does to the modules of a distribution that has a plugin."""

from __future__ import annotations

from typing import Any

import pytest

from otel_posthog import api, lane


def test_our_modules_are_imported_as_written(request: pytest.FixtureRequest) -> None:
    """Left alone, pytest rewrites the asserts of all of them, in whichever threads they are first imported."""
    hook: Any = request.config.pluginmanager.rewrite_hook  # type: ignore[attr-defined]

    assert hook.find_spec("otel_posthog.api.capture", list(api.__path__)) is None
    assert hook.find_spec("otel_posthog.lane.worker", list(lane.__path__)) is None
