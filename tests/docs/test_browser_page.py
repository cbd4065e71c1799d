"""docs/browser.md does what it says: its Python runs, its pages run in a real Chromium with the real posthog-js."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otel_posthog.config.environment import OURS
from otel_posthog.context import current_work
from otel_posthog.emulator import Emulator
from tests.browser.conftest import browser, emulator, posthog_js
from tests.fixtures.chromium import Chromium
from tests.unit.browser.conftest import setting, upstream

__all__ = ["browser", "emulator", "posthog_js", "setting", "upstream"]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "browser.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_every_block_runs(emulator: Emulator, setting: Callable[..., None], browser: Chromium) -> None:
    """The app of the page serves the page's HTML; its calls arrive, by the relay."""
    from werkzeug.serving import make_server

    setting(OTEL_EXPORTER_OTLP_ENDPOINT=emulator.endpoint, OTEL_POSTHOG_BROWSER_RELAY="/relay")
    space: dict[str, Any] = {"__name__": "page"}
    for code in blocks("python"):
        exec(compile(code, "docs/browser.md", "exec"), space)
    head, calls, module = blocks("html")

    def page() -> str:
        current_work().change(flags={"new-dashboard": True})
        return space["render_template_string"](f"<!doctype html>{head}<body></body>{calls}{module}")

    space["app"].add_url_rule("/page", view_func=page)
    server = make_server("127.0.0.1", 0, space["app"], threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        tab = browser.page()
        url = f"http://127.0.0.1:{server.port}"
        tab.open(f"{url}/")
        assert '"section": "shop"' in tab.run("document.scripts[0].textContent")
        tab.open(f"{url}/page")
        emulator.wait_for(lambda e: e.events(event="chart opened") and e.events(event="page read"), 60)
        assert tab.run("document.body.className") == "new"
        assert [one["url"] for one in tab.requests if not one["url"].startswith(url)] == []
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()
    requests = [SimpleNamespace(cookies={"consent": value}) for value in ("yes", "no", "")]
    assert [space["given"](request) for request in requests] == [True, False, None]


def test_django_block(setting: Callable[..., None]) -> None:
    """The tag of the page, in a template of Django's."""
    template = pytest.importorskip("django.template")
    engine = template.Engine(libraries={"otel_posthog": "otel_posthog.browser.django.templatetags.otel_posthog"})

    html = engine.from_string(blocks("django")[0]).render(template.Context({"csp_nonce": "x"}))

    assert html.startswith('<script nonce="x">')
    assert "phc_pages" in html


def test_every_setting_is_there() -> None:
    """Every setting of pages stands in the table."""
    names = [row.name for row in OURS if row.setting.startswith("browser.")]

    assert [name for name in names if f"`{name}`" not in PAGE.split("## Settings")[1]] == []
