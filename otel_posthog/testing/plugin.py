"""The pytest plugin: nothing is sent from tests, and fixtures show what would be.

Loaded by pytest in every project that has this package installed (entry point `pytest11`): it imports nothing beyond
pytest and the standard library before a fixture is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from otel_posthog.emulator import Emulator
    from otel_posthog.testing.captured import CapturedEvents
    from otel_posthog.testing.clock import Clock

SWITCH: Final = "OTEL_POSTHOG_ENABLED"
MARKER: Final = "otel_posthog"
_OFF: Final = "false"
_KEY: Final = pytest.StashKey["str | None"]()
"""What the switch was before it was shut."""
_TOKENS: Final = ("OTEL_EXPORTER_OTLP_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS")


# --- the gate --------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--otel-posthog`, and the same in the configuration file."""
    text = "let the code under test send to PostHog, where the OTLP variables say so; otherwise tests send nothing"
    parser.getgroup("otel-posthog").addoption("--otel-posthog", action="store_true", default=False, help=text)
    parser.addini("otel_posthog", text, type="bool", default=False)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Shuts the gate before the first conftest.py imports the app."""
    _as_written(early_config)
    _shut(early_config)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Says what the marker is; a conftest.py may have had its say about the gate by now."""
    config.addinivalue_line(
        "markers", f"{MARKER}(**arguments): arguments of otel_posthog.testing.capturing() for captured_events"
    )
    _shut(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Everything as it was."""
    _open(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Tells those who may wonder: there is somewhere to send to."""
    if _KEY in config.stash and any(os.environ.get(name, "").strip() for name in _TOKENS):
        return "otel-posthog: off in tests (--otel-posthog lets them send)"
    return None


def _wanted(config: pytest.Config) -> bool:
    chosen = getattr(config.option, "otel_posthog", False) or getattr(
        config.known_args_namespace, "otel_posthog", False
    )
    if chosen:
        return True
    try:
        return bool(config.getini("otel_posthog"))
    except (KeyError, ValueError):  # loaded by a conftest.py, when options have been read
        return False


def _shut(config: pytest.Config) -> None:
    if _wanted(config):
        _open(config)
        return
    if _KEY not in config.stash:
        config.stash[_KEY] = os.environ.get(SWITCH)
        os.environ[SWITCH] = _OFF
        _stop()


def _open(config: pytest.Config) -> None:
    if _KEY not in config.stash:
        return
    before = config.stash[_KEY]
    del config.stash[_KEY]
    if os.environ.get(SWITCH) != _OFF:
        return  # somebody has decided otherwise meanwhile
    if before is None:
        del os.environ[SWITCH]
    else:
        os.environ[SWITCH] = before


def _as_written(config: pytest.Config) -> None:
    """Our modules are imported as they are, and not with their asserts rewritten.

    pytest rewrites every module of a distribution that has a plugin in it. Ours are imported where they are first used,
    often in two threads at once, and `ast.parse` of CPython 3.11 fails in one of two threads (SystemError: "AST
    constructor recursion depth mismatch"). Where pytest has no such names, it stays as it is.
    """
    hook: Any = getattr(config.pluginmanager, "rewrite_hook", None)
    marked, known = getattr(hook, "_must_rewrite", None), getattr(hook, "_marked_for_rewrite_cache", None)
    if isinstance(marked, set) and isinstance(known, dict):
        marked.discard("otel_posthog")  # pyright: ignore[reportUnknownMemberType]
        known.clear()  # pyright: ignore[reportUnknownMemberType]


def _stop() -> None:
    """Under `opentelemetry-instrument pytest` it runs by now."""
    import sys

    assembly: Any = sys.modules.get("otel_posthog.assembly")
    if assembly is None or assembly.current() is None:
        return
    import otel_posthog
    from otel_posthog.api.process import process

    otel_posthog.shutdown(0)
    process.forget()


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def captured_events(request: pytest.FixtureRequest, posthog_clock: Clock) -> Generator[CapturedEvents]:
    """Everything that the test does and that would go to PostHog, as a list. See docs/testing.md.

    `@pytest.mark.otel_posthog(rules="rules.yaml")` gives arguments to `otel_posthog.testing.capturing`.
    """
    from otel_posthog.testing.capturing import PROJECT, capturing

    arguments: dict[str, Any] = {"directory": request.config.rootpath, "seed": request.node.nodeid}
    if "posthog_emulator" in request.fixturenames:
        from otel_posthog.testing.emulating import FLAGS_TIMEOUT

        emulator: Emulator = request.getfixturevalue("posthog_emulator")
        arguments.update(flags_host=emulator.url, flags_token=PROJECT, flags_timeout=FLAGS_TIMEOUT)
    for marker in reversed(list(request.node.iter_markers(MARKER))):
        if marker.args:
            raise pytest.UsageError(f"@pytest.mark.{MARKER} takes arguments by name, not {marker.args[0]!r}")
        arguments.update(marker.kwargs)
    with capturing(clock=posthog_clock, **arguments) as events:
        yield events


@pytest.fixture
def posthog_clock() -> Clock:
    """When things happen in `captured_events`: 2026-01-01 00:00 UTC until the test moves it."""
    from otel_posthog.testing.clock import Clock

    return Clock()


@pytest.fixture
def posthog_flags() -> Generator[Callable[..., None]]:
    """Gives flags values until the test is over, in all its threads.

    `posthog_flags("new-ui")`, `posthog_flags("button", "green", payload={…})`, `posthog_flags({"new-ui": False})`.
    """
    from otel_posthog.testing.flagging import forcing

    with forcing() as force:
        yield force


@pytest.fixture
def posthog_emulator(monkeypatch: pytest.MonkeyPatch) -> Generator[Emulator]:
    """A PostHog on this machine, of the test's own (extra `emulator`), to which this package sends in the test.

    The project API key is `phc_test`. `posthog_emulator.url` is the host for the `posthog` SDK, and
    `posthog_emulator.flags = {"flags": {…}}` sets flags.
    """
    from otel_posthog.testing.emulating import emulating

    with emulating(monkeypatch.setenv, monkeypatch.delenv) as emulator:
        yield emulator
