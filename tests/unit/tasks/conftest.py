"""Where the real data sets lie, for the tests that read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def data_root() -> Path:
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    root = Path(os.environ.get("PRUNE_SEARCH_DATA", beside))
    if not root.is_dir():
        pytest.skip("no real data sets: name their folder in PRUNE_SEARCH_DATA")
    return root
