"""The plugin in projects of others: in sessions and processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

OPEN = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_EXPORTER_OTLP_TOKEN": "phc_of_the_developer",
    "OTEL_POSTHOG_MODE": "direct",
}


ROOT = Path(__file__).resolve().parents[3]
PLUGIN = "otel_posthog.testing.plugin"


class Project:
    """A project with tests, and the shell of its developer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("pytest.ini", "[pytest]\n")

    def write(self, name: str, text: str) -> None:
        """One file of it."""
        (self.path / name).write_text(textwrap.dedent(text), encoding="utf-8")

    def run(self, *arguments: str, script: str = "", **variables: str) -> str:
        """Runs its tests in a process of their own; gives what pytest says."""
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "POSTHOG_", "PYTEST"))}
        done = subprocess.run(
            [sys.executable, *([script] if script else ["-m", "pytest", "-p", "no:cacheprovider"]), *arguments],
            cwd=self.path,
            # Alone, since loading all that is installed here takes longer than most of these tests.
            env={**plain, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": PLUGIN, **variables},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


GATE = """
    import otel_posthog
    from otel_posthog import assembly

    otel_posthog.capture("at import", distinct_id="ada")

    def test_gate():
        print("GATE", otel_posthog.capture("in a test", distinct_id="ada") is not None, assembly.current() is not None)
"""


@pytest.mark.parametrize(
    ("arguments", "ini", "open_"), [((), "", False), (("--otel-posthog",), "", True), ((), "otel_posthog = on", True)]
)
def test_off_by_default(project: Project, arguments: tuple[str, ...], ini: str, open_: bool) -> None:
    """With the variables of the developer's shell nothing runs in a test process, unless somebody says so."""
    project.write("pytest.ini", f"[pytest]\n{ini}\n")
    project.write("conftest.py", "import otel_posthog\notel_posthog.capture('in a conftest', distinct_id='ada')\n")
    project.write("test_gate.py", GATE)
    said = project.run("-s", "-q", *arguments, **OPEN)

    assert f"GATE {open_} {open_}" in said


def test_pytest_finds_it() -> None:
    """Whoever installs the package has the plugin, by a name that can be switched off."""
    tomllib = pytest.importorskip("tomllib")

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert declared["project"]["entry-points"]["pytest11"] == {"otel_posthog": PLUGIN}


def test_what_the_header_says(project: Project) -> None:
    """Who may wonder is told; others are not."""
    project.write("test_gate.py", GATE)

    assert "otel-posthog: off in tests (--otel-posthog lets them send)" in project.run(**OPEN)
    assert "otel-posthog: off" not in project.run()
    assert "otel-posthog: off" not in project.run("--otel-posthog", **OPEN)


def test_children_are_off_too(project: Project) -> None:
    """A process that a test starts sends nothing either, and after the session all is as it was."""
    project.write(
        "test_child.py",
        """
        import subprocess, sys

        CODE = "import otel_posthog; print('CHILD', otel_posthog.capture('x', distinct_id='ada'))"

        def test_child():
            print(subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60).stdout)
        """,
    )
    assert "CHILD None" in project.run("-s", **OPEN)


def test_under_instrumentation(project: Project) -> None:
    """A bridge that runs when pytest starts is stopped."""
    project.write("test_gate.py", GATE)
    project.write(
        "run.py",
        """
        import sys, pytest
        from otel_posthog import auto
        assert auto.install()
        sys.exit(pytest.main(["-s", "-q", *sys.argv[1:]]))
        """,
    )
    said = project.run(script="run.py", **OPEN)
    assert "GATE False False" in said, said


def test_nothing_heavy_at_the_start(project: Project) -> None:
    """The plugin loads no other part of this package, and no OpenTelemetry."""
    project.write(
        "conftest.py",
        """
        import sys

        def pytest_collection_finish(session):
            print("LOADED", sorted(name for name in sys.modules if name.startswith(("otel_posthog", "opentelemetry"))))
        """,
    )
    said = project.run("--collect-only", "-s")

    loaded = ["otel_posthog", "otel_posthog.lazy", "otel_posthog.testing", "otel_posthog.testing.plugin"]
    assert f"LOADED {[*loaded, 'otel_posthog.version']}" in said


SHOP = """
    import otel_posthog
    from opentelemetry import trace

    tracer = trace.get_tracer("shop")

    def checkout(total):
        with tracer.start_as_current_span("checkout", attributes={"posthog.event": "checked out"}):
            otel_posthog.identify("ada")
            otel_posthog.capture("order paid", {"total": total})
"""


def test_the_fixtures(project: Project) -> None:
    """Each of them in an ordinary test, in one process and in two."""
    project.write("shop.py", SHOP)
    project.write(
        "test_shop.py",
        """
        import pytest, otel_posthog, shop
        from otel_posthog import flags

        @pytest.mark.parametrize("turn", range(4))
        def test_checkout(captured_events, turn):
            shop.checkout(29.0)
            assert captured_events == [
                {"event": "order paid", "distinct_id": "ada", "properties": {"total": 29.0}},
                {"event": "checked out", "distinct_id": "ada", "properties": {}},
            ]

        def test_clock(captured_events, posthog_clock):
            posthog_clock.advance(90)
            otel_posthog.capture("late", distinct_id="ada")
            assert captured_events.one().timestamp.isoformat() == "2026-01-01T00:01:30+00:00"

        @pytest.mark.otel_posthog(rules="rules.yaml")
        class TestRules:
            def test_marker(self, captured_events):
                with shop.tracer.start_as_current_span("pay"):
                    pass
                assert [event.name for event in captured_events] == ["paid"]

            @pytest.mark.otel_posthog(rules="rules:\\n  - {name: p, match: {name: pay}, capture: paid otherwise}\\n")
            def test_nearer_marker(self, captured_events):
                with shop.tracer.start_as_current_span("pay"):
                    pass
                assert [event.name for event in captured_events] == ["paid otherwise"]

        def test_flags(posthog_flags):
            posthog_flags("new-ui")
            posthog_flags({"button": "green", "old": False})
            posthog_flags("button", "blue", payload={"size": 3})
            assert flags.enabled("new-ui", "ada") and not flags.enabled("old", "ada", default=True)
            assert (flags.variant("button", "ada"), flags.payload("button", "ada")) == ("blue", {"size": 3})

        def test_flags_are_gone():
            assert not flags.enabled("new-ui", "ada")

        def test_nothing_without_a_fixture():
            assert otel_posthog.capture("unseen", distinct_id="ada") is None

        def test_async(captured_events):
            import asyncio
            async def main():
                otel_posthog.identify("bob")
                await asyncio.to_thread(shop.checkout, 1.0)
            asyncio.run(main())
            assert len(captured_events.named("order paid")) == 1

        @pytest.mark.anyio
        async def test_anyio(captured_events):
            otel_posthog.identify("bob")
            otel_posthog.capture("seen")
            assert captured_events.one("seen").distinct_id == "bob"

        def test_nobody_is_left(captured_events):
            otel_posthog.capture("seen")
            assert captured_events.one().personless
        """,
    )
    project.write("rules.yaml", "rules:\n  - {name: pay, match: {name: pay}, capture: paid}\n")
    said = project.run("-q", "-p", "anyio", "-W", "error", "--strict-markers", **OPEN)
    assert "13 passed" in said, said
    said = project.run("-q", "-p", "anyio", "-p", "xdist", "-n", "2", **OPEN)
    assert "13 passed" in said, said


def test_the_emulator(project: Project) -> None:
    """The real SDK and ours reach it, flags come from it; beside `captured_events` it answers flags alone."""
    pytest.importorskip("posthog")
    project.write("shop.py", SHOP)
    project.write(
        "test_shop.py",
        """
        import otel_posthog, shop
        from otel_posthog import flags
        from posthog import Posthog

        def test_whole_way(posthog_emulator):
            posthog_emulator.flags = {"flags": {"new-ui": True}}
            shop.checkout(29.0)
            assert flags.enabled("new-ui", "ada") is True
            assert otel_posthog.flush(60)
            names = {event["event"] for event in posthog_emulator.events(distinct_id="ada")}
            assert names == {"order paid", "checked out", "$feature_flag_called"}

        def test_nothing_of_the_last(posthog_emulator):
            client = Posthog("phc_test", host=posthog_emulator.url)
            client.capture("seen", distinct_id="bob")
            client.shutdown()
            assert [event["event"] for event in posthog_emulator.events()] == ["seen"]

        def test_flags_alone(captured_events, posthog_emulator):
            posthog_emulator.flags = {"flags": {"button": "green"}}
            assert flags.variant("button", "ada") == "green"
            assert captured_events.one("$feature_flag_called").properties["$feature_flag_response"] == "green"
            assert posthog_emulator.events() == []
        """,
    )
    said = project.run("-q", **OPEN)
    assert "3 passed" in said, said


FAILING = """
    import otel_posthog

    def test_equal(captured_events):
        otel_posthog.capture("order paid", {"total": 28.0}, distinct_id="ada")
        assert captured_events == [
            {"event": "order paid", "distinct_id": "ada", "properties": {"total": 29.0}},
        ]

    def test_one(captured_events):
        otel_posthog.capture("order paid", {"total": 28.0}, distinct_id="ada")
        captured_events.one("order payed")

    def test_length(captured_events):
        otel_posthog.capture("order paid", {"total": 28.0}, distinct_id="ada")
        assert len(captured_events) == 2
"""


def test_what_a_failing_test_shows(project: Project) -> None:
    """The difference, or what there was, and no line of the kit's own code."""
    project.write("test_failing.py", FAILING)
    said = project.run("-v")

    for line in (
        "At index 0 diff: {'event': 'order paid', 'distinct_id': 'ada', 'properties': {'total': 28.0}} != {'event'",
        "AssertionError: exactly one event 'order payed' was expected, and none captured; did you mean 'order p",
        "E         1. 'order paid' of 'ada' {'total': 28.0}",
        "E       AssertionError: assert 1 == 2",
        "3 failed",
    ):
        assert line in said, said
    assert "otel_posthog/testing" not in said


def test_wrong_arguments_are_told(project: Project) -> None:
    """A marker that nobody understands is an error that names it."""
    project.write(
        "test_wrong.py",
        """
        import pytest

        @pytest.mark.otel_posthog("rules.yaml")
        def test_positional(captured_events): ...

        @pytest.mark.otel_posthog(keep_qery=True)
        def test_unknown(captured_events): ...
        """,
    )
    said = project.run("-q")
    assert "@pytest.mark.otel_posthog takes arguments by name, not 'rules.yaml'" in said
    assert "`keep_qery` (argument): no such setting. Did you mean keep_query?" in said
    assert "2 errors" in said


def test_our_own_failures_fail_no_test_of_others(project: Project) -> None:
    """They are a warning in pytest's summary, by its own category, and an error nowhere."""
    project.write(
        "test_shop.py",
        """
        import otel_posthog
        from otel_posthog.convert import Converter

        def test_shop(captured_events, monkeypatch):
            def broken(self, signal):
                raise ZeroDivisionError("ours")

            monkeypatch.setattr(Converter, "convert", broken)
            otel_posthog.capture("order paid", distinct_id="ada")
            assert captured_events == []
        """,
    )
    said = project.run("-q")

    assert "1 passed" in said
    assert "InternalErrorWarning: otel-posthog: internal error in " in said
    assert "(ZeroDivisionError: ours)" in said
    assert "1 passed" in project.run("-q", "-W", "error")


def test_a_session_within_a_session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In process, too: the gate is shut for the inner session alone, and what it was is put back."""
    monkeypatch.setenv("OTEL_POSTHOG_ENABLED", "true")
    pytester.makepyfile(
        """
        import os

        def test_switch():
            assert os.environ["OTEL_POSTHOG_ENABLED"] == "false"
        """
    )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.inline_run("-p", "no:cacheprovider", "-p", PLUGIN).assertoutcome(passed=1)
    assert os.environ["OTEL_POSTHOG_ENABLED"] == "true"
