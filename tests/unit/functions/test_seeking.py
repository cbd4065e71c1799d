"""Looking for a function without importing anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from otel_posthog.instrumentation.seeking import Missing, missing_function, missing_module

CODE = """
raise SystemExit("nobody may run this")

import os as system
from decimal import Decimal

RATE, (HALF, _) = 1, (2, 3)
charge_all = lambda: None

def charge(): pass

async def charge_later(): pass

class Order:
    total = 1
    def pay(self): pass
    class Line:
        def drop(self): pass

class Rush(Order): pass

@system.fspath
class Made: pass

if RATE:
    def hidden(): pass
else:
    class Hidden: pass
try:
    pass
except ValueError:
    def after(): pass
finally:
    def at_last(): pass
with open("x") as file:
    def inside(): pass
match RATE:
    case 1:
        def matched(): pass
for each in ():
    def again(): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Packages and modules that end the process when they are imported."""
    files = {
        "seek_shop/__init__.py": "raise SystemExit",
        "seek_shop/billing.py": CODE,
        "seek_shop/stars.py": "from os import *",
        "seek_shop/lazy.py": "def __getattr__(name): return 1",
        "seek_shop/broken.py": "def (",
        "seek_shop/latin.py": "# -*- coding: latin-1 -*-\n# \xe9",
        "seek_shop/deep/__init__.py": "raise SystemExit",
        "seek_shop/deep/leaf.py": "def run(): pass",
        "seek_shop/open/leaf.py": "def run(): pass",
        "seek_spaces/one/two.py": "def run(): pass",
        "seek_path/__init__.py": "__path__ = []",
        "seek_single.py": "def run(): pass",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1")
    return str(tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        *(
            f"seek_shop.billing:{name}"
            for name in ("charge", "charge_later", "charge_all", "Order.pay", "Order.Line.drop")
        ),
        *(
            f"seek_shop.billing:{name}"
            for name in ("Order.__init__", "Rush.pay", "Made.pay", "system.getcwd", "Decimal")
        ),
        *(
            f"seek_shop.billing:{name}"
            for name in ("HALF", "hidden", "Hidden", "after", "at_last", "inside", "matched")
        ),
        "seek_shop.billing:again",
        "seek_shop.stars:getcwd",
        "seek_shop.lazy:anything",
        "seek_shop.broken:anything",
        "seek_shop.latin:anything",
        "seek_shop.deep.leaf:run",
        "seek_shop.open.leaf:run",
        "seek_shop.open.nobody.knows:run",
        "seek_spaces.one.two:run",
        "seek_path.anything:run",
        "seek_single:run",
        "os.path:join",
        "math:sqrt",
        "sys:exit",
        "__main__:run",
    ],
)
def test_what_is_there_or_cannot_be_known(folder: str, target: str) -> None:
    """Nothing is said of it, and nothing has been imported."""
    module, _, qualname = target.partition(":")

    assert missing_function(module, qualname, [folder]) is None
    assert missing_module(module, [folder]) is None
    assert not [name for name in sys.modules if name.startswith("seek_")]


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("seek_shop.billing:chrage", Missing("there is no chrage; did you mean charge?")),
        ("seek_shop.billing:Ordre.pay", Missing("there is no Ordre; did you mean Order?")),
        ("seek_shop.billing:Order.pays", Missing("there is no pays; did you mean pay?")),
        ("seek_shop.billing:Order.Line.drip", Missing("there is no drip; did you mean drop?")),
        ("seek_shop.biling:charge", Missing("there is no module seek_shop.biling; did you mean billing?")),
        ("seek_shop.deep.leav:run", Missing("there is no module seek_shop.deep.leav; did you mean leaf?")),
        ("seek_single.more:run", Missing("seek_single is a module, and no package")),
        ("seek_nowhere_at_all:run", Missing("there is no module seek_nowhere_at_all in sys.path", package=True)),
        (
            "seek_shoq.billing:run",
            Missing("there is no module seek_shoq in sys.path; did you mean seek_shop?", package=True),
        ),
    ],
)
def test_what_is_missing(folder: str, target: str, missing: Missing) -> None:
    """With the nearest name; a whole package may be elsewhere."""
    module, _, qualname = target.partition(":")

    assert missing_function(module, qualname, [folder]) == missing
    assert not [name for name in sys.modules if name.startswith("seek_")]


def test_finders_of_others_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody knows."""

    class Finder:
        def find_spec(self, *_: object) -> None:
            raise RuntimeError("no")

    monkeypatch.setattr(sys, "meta_path", [Finder()])

    assert missing_module("seek_nowhere") is None
