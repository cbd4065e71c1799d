"""A post imports nothing that `load` has not: a fork in the middle of an import leaves a child that hangs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.delivery.loopback import Server
from tests.unit.delivery.secured import Secured

CODE = """
import sys
from otel_posthog.delivery.protocols import Request
from otel_posthog.delivery.transport import Urllib3Transport
transport = Urllib3Transport(ca_file=sys.argv[2])
transport.load()
before = set(sys.modules)
for name in ("127.0.0.1", "localhost"):
    url = sys.argv[1].replace("127.0.0.1", name)
    assert transport.post(Request(url + "/batch/", {}, b'{"batch": []}'), timeout=10).status == 200
print(*(set(sys.modules) - before))
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_post_imports_nothing_that_load_has_not(server: Server, secured: Secured, scheme: str) -> None:
    """Neither over plain HTTP nor over TLS, neither for an address nor for a name."""
    url = server.url if scheme == "http" else secured.url
    ended = subprocess.run(
        [sys.executable, "-c", CODE, url, str(secured.ca_file)],
        cwd=Path.cwd(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, ""), ended.stderr
