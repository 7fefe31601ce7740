"""Where the real data sets lie, for the tests that read them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def data_root() -> Path:
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    root = Path(os.environ.get("PRUNE_SEARCH_DATA", beside))
    if not root.is_dir():
        pytest.skip("no real data sets: name their folder in PRUNE_SEARCH_DATA")
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, from which modules can be imported that are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path
