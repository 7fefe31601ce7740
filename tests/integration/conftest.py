"""A search that several files look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_search import MIXED, Searches, troubles

from prune_search.searches import Outcome


@pytest.fixture(scope="session")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Searches:
    return Searches(tmp_path_factory.mktemp("searches"))


@pytest.fixture(scope="session")
def mixed(searches: Searches, trouble: Path) -> Outcome:
    """Eight trials over four paradigms, reproducible."""
    with troubles():
        return searches.launch(MIXED, "mixed")
