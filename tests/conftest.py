"""Fixtures for every test: a clean environment, and no network beyond loopback."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from pytest_socket import socket_allow_hosts

from otel_posthog.observe.guard import Guard
from tests.fixtures.books import Books, books_of_the_test

books = books_of_the_test

# How long an example takes says more about the machine than about the code.
settings.register_profile("usual", settings(), deadline=None)
settings.load_profile("usual")
# For a second run on another Python and SDK (`make test-floor`), where the first has drawn the many examples.
settings.register_profile("few", settings(), max_examples=25)


def pytest_configure(config: pytest.Config) -> None:
    """Tests of this package open and shut the gate themselves: the plugin that it ships leaves it alone here."""
    config.option.otel_posthog = True


def pytest_collection_finish() -> None:
    """What was loaded to collect the tests stays to the end: no search for garbage goes through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def balanced_books(books: Books) -> None:
    """Whatever a test does with a bridge, each signal and each event has exactly one outcome."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No OpenTelemetry, PostHog or proxy setting of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "POSTHOG_")) and name != "OTEL_POSTHOG_REQUIRE_ALL":
            monkeypatch.delenv(name)
        if name.lower() in {"http_proxy", "https_proxy", "all_proxy"}:
            monkeypatch.delenv(name)
    yield


@pytest.fixture(autouse=True)
def internal_errors_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that production swallows fails the test of ours that meets it (docs/decisions/0149)."""
    monkeypatch.setattr(Guard, "raises", True)


@pytest.fixture(autouse=True)
def own_logger() -> Iterator[None]:
    """Each test begins with our logger as it is in a new process: a runtime of an earlier test has rewired it."""
    logger = logging.getLogger("otel_posthog")
    logger.handlers.clear()
    logger.propagate = True
    yield


@pytest.fixture(autouse=True)
def loopback_only() -> None:
    """Nobody reaches PostHog from a test by accident."""
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)
