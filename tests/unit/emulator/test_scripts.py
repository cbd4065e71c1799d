"""posthog-js's files, where PostHog has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import urllib3

from otel_posthog.emulator import Emulator
from otel_posthog.errors import ConfigError


def test_files_and_recordings(tmp_path: Path) -> None:
    """With the package's folder its scripts are served, and nothing beside them; browsers are told to record."""
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "array.js").write_text("/* array */")
    (folder / "array.js.map").write_text("{}")
    (tmp_path / "secret.js").write_text("no")
    pool = urllib3.PoolManager(retries=False)
    with Emulator(posthog_js=folder) as emulator:
        got = {
            path: pool.request("GET", f"{emulator.url}{path}")
            for path in ("/static/array.js", "/static/1.2.3/array.js", "/static/array.js.map", "/static/..%2fsecret.js")
        }
        own = pool.request("GET", f"{emulator.url}/static/app.js")
        config = json.loads(pool.request("GET", f"{emulator.url}/array/phc_x/config").data)
        snapshot = {"token": "phc_x", "event": "$snapshot", "properties": {"distinct_id": "ada", "$snapshot_data": []}}
        sent = pool.request("POST", f"{emulator.url}/s/", body=json.dumps(snapshot).encode())
        stored = emulator.events(event="$snapshot")
    pool.clear()

    assert [answer.status for answer in got.values()] == [200, 200, 404, 404]
    assert got["/static/array.js"].data == b"/* array */"
    assert got["/static/array.js"].headers["content-type"].startswith("text/javascript")
    assert got["/static/array.js"].headers["access-control-allow-origin"] == "*"
    assert own.status == 200
    assert config["sessionRecording"]["endpoint"] == "/s/"
    assert (sent.status, len(stored)) == (200, 1)


def test_folder_without_them(tmp_path: Path) -> None:
    """A folder that is not the package's is refused at the start, with the way out."""
    with pytest.raises(ConfigError, match=r"--posthog-js.*there is no array\.js in it\. Name the folder dist"):
        Emulator(posthog_js=tmp_path)
