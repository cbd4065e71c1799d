"""A registry of flags, and the report of those that nobody reads."""

from __future__ import annotations

import gc
import logging
import pickle
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from otel_posthog import flags
from otel_posthog.flags.registry import registries
from otel_posthog.flags.tidying import reads
from tests.unit.flags.conftest import heard


@pytest.fixture(autouse=True)
def _forget_registries() -> Iterator[None]:
    """Classes of other tests are gone."""
    gc.collect()
    yield
    gc.collect()


def shop() -> type[Any]:
    """A registry as an app would write it."""

    class FeatureFlags(flags.Registry):
        NEW_DASHBOARD = flags.Flag("new-dashboard", owner="growth", expires="2099-12-31", description="The new one")
        OLD_CART = flags.Flag("old-cart", owner="checkout", expires=date(2020, 1, 31), state="remove")
        ADMIN_TOOLS = "admin-tools"
        _note = "no flag"
        limit = 7

    return FeatureFlags


def test_members_are_keys() -> None:
    """They go wherever a key goes, and know more."""
    registry = shop()

    assert registry.NEW_DASHBOARD == "new-dashboard"
    assert {"new-dashboard": 1}[registry.NEW_DASHBOARD] == 1
    assert [str(flag) for flag in registry.flags()] == ["new-dashboard", "old-cart", "admin-tools"]
    assert [(flag.name, flag.owner, flag.expires, flag.state) for flag in registry.flags()] == [
        ("NEW_DASHBOARD", "growth", date(2099, 12, 31), "testing"),
        ("OLD_CART", "checkout", date(2020, 1, 31), "remove"),
        ("ADMIN_TOOLS", "", None, "testing"),
    ]
    assert flags.registered()["admin-tools"] is registry.ADMIN_TOOLS
    assert pickle.loads(pickle.dumps(registry.NEW_DASHBOARD)) == "new-dashboard"
    assert not registry.NEW_DASHBOARD.expired()
    assert registry.OLD_CART.expired()
    assert not registry.OLD_CART.expired(date(2020, 1, 31))


def test_a_subclass_has_those_of_its_base() -> None:
    """An app in parts has one registry each."""
    base = shop()

    class More(base):  # type: ignore[misc, valid-type]
        NEW = "new-part"

    assert [str(flag) for flag in More.flags()] == ["new-dashboard", "old-cart", "admin-tools", "new-part"]
    assert {registry.__name__ for registry in registries()} >= {"FeatureFlags", "More"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"A": "NewDashboard"}, "kebab-case"),
        ({"A": "new_dashboard"}, "kebab-case"),
        ({"A": "one", "B": "one"}, "already"),
    ],
)
def test_mistakes_are_said_where_the_class_is_written(body: dict[str, str], words: str) -> None:
    """At import, by name."""
    with pytest.raises(ValueError, match=words):
        type("Mistaken", (flags.Registry,), body)


@pytest.mark.parametrize(
    "key",
    ["new-dashboard", "beta-features", "new-timer-ui", "onboarding-flow", "enable-exports", "dashboard-config",
     "new-ui", "admin-tools", "docker-optimizations"],
)  # fmt: skip
def test_kebab_case(key: str) -> None:
    """The style that PostHog's flags have; another one by choice."""
    type("Fine", (flags.Registry,), {"A": key})
    type("Chosen", (flags.Registry,), {"A": key.title()}, kebab_case=False)

    assert {key, key.title()} <= set(flags.registered())


@pytest.mark.parametrize(
    "arguments", [{"key": ""}, {"key": "x" * 401}, {"key": "a", "state": "done"}, {"key": "a", "expires": "soon"}]
)
def test_a_flag_that_is_none(arguments: dict[str, str]) -> None:
    """Said at once."""
    with pytest.raises(ValueError):
        flags.Flag(**arguments)


def test_a_typing_error(running: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Raised while tests run; in production said once, and asked all the same."""
    registry = shop()
    assert flags.enabled(registry.NEW_DASHBOARD, "ada") is True

    with pytest.raises(flags.UnknownFlagError, match="did you mean 'new-dashboard'"):
        flags.enabled("new-dashbord", "ada")

    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    heard(monkeypatch)
    with caplog.at_level(logging.WARNING, "otel_posthog"):
        for _ in range(3):
            assert flags.enabled("beta-features", "ada", default=True) is False
            assert flags.enabled(registry.OLD_CART, "ada") is False
    assert [record.getMessage() for record in caplog.records] == [
        "otel-posthog: the flag 'beta-features' is in no registry",
        "otel-posthog: the flag 'old-cart' is in use, but its last day was 2020-01-31 (owner: checkout)",
    ]


def test_a_typing_error_is_looked_into_once(running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for what was meant takes milliseconds, which no request has for each question."""
    shop()
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    looked: list[str] = []
    monkeypatch.setattr("difflib.get_close_matches", lambda name, *_: looked.append(name) or [])
    for _ in range(3):
        flags.enabled("new-dashbord", "ada")
    assert looked == ["new-dashbord"]


def write(folder: Path, **files: str) -> None:
    """Files by name, `__` for a dot."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")


def test_unused(tmp_path: Path) -> None:
    """Known and nowhere read; overdue; to be removed and still read; at PostHog and in no registry."""
    registry = shop()
    write(
        tmp_path,
        flags__py=(
            'class FeatureFlags(flags.Registry):\n    NEW_DASHBOARD = "new-dashboard"\n'
            '    ADMIN_TOOLS = "admin-tools"\n'
        ),
        views__py=(
            "from shop.flags import FeatureFlags\n# old-cart is only named here\n\n"
            'def index():\n    return enabled(FeatureFlags.OLD_CART), enabled("from-posthog")\n'
        ),
        page__html="{% if flags['admin-tools'] %}…{% endif %}\n",
        broken__py='def (:\n    enabled("admin-tools")\n',
        data__txt="'new-dashboard'",
    )
    (tmp_path / "node_modules").mkdir()
    write(tmp_path / "node_modules", x__js="'new-dashboard'")

    found = flags.unused([tmp_path], known=registry.flags(), remote=["from-posthog", "forgotten", "admin-tools"])

    views = f"{tmp_path.as_posix()}/views.py:5"
    assert [(finding.kind, finding.key, finding.owner, finding.places) for finding in found] == [
        ("expired", "old-cart", "checkout", (views,)),
        ("remove", "old-cart", "checkout", (views,)),
        ("unregistered", "from-posthog", "", (views,)),
        ("unused", "forgotten", "", ()),
        ("unused", "new-dashboard", "growth", ()),
    ]
    assert reads([tmp_path], {"admin-tools"}) == {
        "admin-tools": (f"{tmp_path.as_posix()}/broken.py:2", f"{tmp_path.as_posix()}/page.html:1")
    }


def test_a_file_alone(tmp_path: Path) -> None:
    """Paths may be files; what is not there is not read."""
    write(tmp_path, a__py="enabled('x')")

    assert reads([tmp_path / "a.py", tmp_path / "none.py"], {"x"}) == {"x": (f"{(tmp_path / 'a.py').as_posix()}:1",)}
