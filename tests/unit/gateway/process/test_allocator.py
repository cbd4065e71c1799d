"""The C library keeps what a gateway frees, and nothing happens where it cannot be told to."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from otel_posthog.gateway.process import allocator

SCRIPT = """
import json, resource
from otel_posthog.gateway.process.allocator import tune_allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [bytearray(size * 1_000_000) for size in range(1, 8)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
tuned = tune_allocator()
faults()
print(json.dumps([plain, tuned, faults()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_blocks_are_kept() -> None:
    """Blocks of some megabytes cost page faults each time, and none once it was told."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    plain, tuned, after = json.loads(done.stdout)
    if not tuned:
        pytest.skip("another C library")

    assert after < plain / 20


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(gnu_get_libc_version=lambda: b"")])
def test_another_library_is_left_alone(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without glibc's own name in it nothing is set, and nothing fails."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)

    assert allocator.tune_allocator() is False


def test_no_library_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where there is no handle to the process's own symbols."""

    def refuse(_: object) -> object:
        raise TypeError

    monkeypatch.setattr(ctypes, "CDLL", refuse)

    assert allocator.tune_allocator() is False
