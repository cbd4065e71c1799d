"""A live exception is the `$exception_list` that PostHog's own SDK sends for it, so that issues group alike."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import json
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from posthog.exception_utils import exceptions_from_error_tuple, handle_in_app

from otel_posthog.config.settings import ConvertConfig, RulesConfig
from otel_posthog.convert import Converter
from otel_posthog.lane.exceptions import read_chain, see
from otel_posthog.lane.readable import from_span
from otel_posthog.model import LocalContext
from otel_posthog.rules.load import load_rules

CONVERTER = Converter(ConvertConfig(), load_rules(RulesConfig()))
PROVIDER = TracerProvider(shutdown_on_exit=False)


class Refund(Exception):
    """Has an attribute that PostHog's SDK prefers to `str()`."""

    message = "refund refused"


class Outer:
    """Holds a class whose qualified name has two parts."""

    class Inner(ValueError):
        """Nested."""


class Unprintable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def _plain() -> None:
    raise ValueError("no such order")


def _nested_class() -> None:
    raise Outer.Inner("x")


def _local_class() -> None:
    class Local(Exception):
        pass

    raise Local("x")


def _caused() -> None:
    try:
        _plain()
    except ValueError as error:
        raise RuntimeError("outer") from error


def _in_context() -> None:
    try:
        _plain()
    except ValueError:
        raise KeyError("while handling")  # noqa: B904 - the implicit context is what is tested


def _context_suppressed() -> None:
    try:
        _plain()
    except ValueError:
        raise KeyError("alone") from None


def _re_raised() -> None:
    try:
        _plain()
    except ValueError as error:
        raise error


def _missing_file() -> None:
    Path("/nowhere/at/all").read_text()


def _in_a_library() -> None:
    json.loads("{")


def _in_a_coroutine() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        _plain()

    asyncio.run(fail())


def _with_a_message() -> None:
    raise Refund("what str() says")


def _unprintable() -> None:
    raise Unprintable("x")


def _without_source() -> None:
    exec(compile("raise ValueError('x')", "<string>", "exec"), {"__name__": "made.up"})


def _group() -> None:
    members: list[Exception] = []
    for fail in (_caused, _plain):
        try:
            fail()
        except Exception as error:
            members.append(error)
    inner = builtins.ExceptionGroup("inner", [KeyError("never raised")])
    try:
        _missing_file()
    except OSError as error:
        raise builtins.ExceptionGroup("several", [*members, inner]) from error


FAILURES = (
    _plain, _nested_class, _local_class, _caused, _in_context, _context_suppressed, _re_raised, _missing_file,
    _in_a_library, _in_a_coroutine, _with_a_message, _unprintable, _without_source,
    *((_group,) if sys.version_info >= (3, 11) else ()),
)  # fmt: skip


def raised(fail: Callable[[], None]) -> BaseException:
    """What `fail` raises."""
    try:
        fail()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def of_the_sdk(error: BaseException) -> list[dict[str, Any]]:
    """`$exception_list` as `Posthog.capture_exception` makes it."""
    entries = exceptions_from_error_tuple((type(error), error, error.__traceback__))
    event = {"exception": {"values": entries}}
    handle_in_app(event, project_root=str(Path.cwd()))
    return entries


def of_ours(error: BaseException) -> list[dict[str, Any]]:
    """`$exception_list` of the bridge for the same object."""
    span = PROVIDER.get_tracer("shop").start_span("a")
    span.record_exception(ValueError("only its place is used"))
    span.end()
    local = LocalContext(exception=read_chain(see(error)), handled=True, mechanism="generic")
    (event,) = CONVERTER.convert(from_span(span)[1].with_local(local)).events
    return event.properties["$exception_list"]


def told(value: Any) -> Any:
    """`value` without what says nothing: `null`, and the empty lines around a line that is not known."""
    if isinstance(value, list):
        return [told(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: told(item) for key, item in value.items() if item is not None and item != []}
    if kept.get("platform") == "python":
        # What the SDK leaves open the server decides: yes, except for the standard library.
        kept.setdefault("in_app", not kept["abs_path"].startswith(sysconfig.get_path("stdlib")))
        # The SDK looks for code from nowhere in the working directory.
        kept["abs_path"] = (
            kept["abs_path"].removeprefix(f"{Path.cwd()}/") if "<" in kept["abs_path"] else kept["abs_path"]
        )
    return kept


@pytest.mark.parametrize("fail", FAILURES)
def test_our_exception_list_is_the_sdk_s(fail: Callable[[], None]) -> None:
    """Types, values, modules, mechanisms, order, and each frame with its file name, line, module and source."""
    error = raised(fail)
    assert told(of_ours(error)) == told(of_the_sdk(error))


def test_frames_are_named_alike_on_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What issues are grouped by is the path from the package on; where it is installed stands beside it."""
    package = tmp_path / "releases-17" / "bookshop" / "orders"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "views.py").write_text("import json\n\n\ndef show():\n    json.loads('{')\n")
    (tmp_path / "releases-17" / "bookshop_main.py").write_text(
        "from bookshop.orders import views\n\n\ndef main():\n    views.show()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "releases-17"))
    error = raised(importlib.import_module("bookshop_main").main)

    assert told(of_ours(error)) == told(of_the_sdk(error))
    frames = of_ours(error)[0]["stacktrace"]["frames"][1:]
    assert [(frame["filename"], frame["in_app"]) for frame in frames] == [
        ("bookshop_main.py", True),
        ("bookshop/orders/views.py", True),
        ("__init__.py", False),  # the SDK's name for the `json` package itself
        ("json/decoder.py", False),
        ("json/decoder.py", False),
    ]
    assert frames[1]["abs_path"] == str(package / "views.py")


def test_source_comes_from_the_loader_where_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code in a zip file has its lines too."""
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("zipped_shop.py", "def main():\n    raise ValueError('x')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "app.zip"))
    error = raised(importlib.import_module("zipped_shop").main)

    assert told(of_ours(error)) == told(of_the_sdk(error))
    assert of_ours(error)[0]["stacktrace"]["frames"][-1]["context_line"] == "    raise ValueError('x')"
