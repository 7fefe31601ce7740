"""Whether an MLflow answers, without making anything there."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune_search.tracking.reachable import reach
from prune_search.tracking.server import UnreachableError


def test_a_database_that_is_not_there_yet_is_made_by_the_search(tmp_path: Path) -> None:
    assert reach(f"sqlite:///{tmp_path / 'mlflow.db'}") == "will be created by a search"
    assert list(tmp_path.iterdir()) == []


def test_a_database_server_that_is_away_is_told_at_once_and_without_its_password() -> None:
    with pytest.raises(UnreachableError, match="the database does not answer") as told:
        reach("postgresql://team:secret@127.0.0.1:1/mlflow")
    assert "secret" not in str(told.value)
