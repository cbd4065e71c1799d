"""Where the seed documents are, for those who have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "SEED_DOCUMENTS"


@pytest.fixture(scope="session")
def seed_documents() -> Path:
    """The folder of the documents; skips where nobody said which."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        pytest.skip(f"the seed documents are no part of the repository; {VARIABLE} names their folder")
    return Path(named)
