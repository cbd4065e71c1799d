"""What pytest does to the modules of a distribution that has a plugin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context

from otel_posthog import api, lane


def test_our_modules_are_imported_as_written(request: pytest.FixtureRequest) -> None:
    """Left alone, pytest rewrites the asserts of all of them, in whichever threads they are first imported."""
    hook: Any = request.config.pluginmanager.rewrite_hook  # type: ignore[attr-defined]

    assert hook.find_spec("otel_posthog.api.capture", list(api.__path__)) is None
    assert hook.find_spec("otel_posthog.lane.worker", list(lane.__path__)) is None


def test_nothing_is_said_where_we_are_imported_before_pytest(request: pytest.FixtureRequest) -> None:
    """Under `opentelemetry-instrument pytest` the package is there before pytest marks what it will rewrite."""
    said: list[Any] = []
    config: Any = SimpleNamespace(
        issue_config_time_warning=lambda warning, stacklevel: said.append(warning),
        getini=request.config.getini,
    )
    hook: Any = request.config.pluginmanager.rewrite_hook  # type: ignore[attr-defined]

    type(hook)(config).mark_rewrite("otel_posthog", context.__name__)

    # The other one shows that there would be something to say.
    assert [str(warning) for warning in said] == [
        "Module already imported so cannot be rewritten; opentelemetry.context"
    ]
