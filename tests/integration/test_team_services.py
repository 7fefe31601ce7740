"""A team's services, as cluster/compose.yaml puts them together: MLflow with passwords, PostgreSQL, an S3 service."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from object_store import BUCKET, ObjectStore
from postgres import NEEDS_POSTGRES, running_postgres
from real_mlflow import ADMIN, MLFLOW_WARNINGS, deliver_rest, kept_runs, local_server
from real_search import SMALL, troubles

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import SearchRecords, read_search
from prune_search.ledger.state import state_of
from prune_search.storage.object_paths import ObjectPath
from prune_search.tracking.project import project

pytestmark = [MLFLOW_WARNINGS]

SPACE = f"""\
# prune-search launch team.yaml
{SMALL}
preset: snip
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}
search: {{trials: 2, concurrency: 2}}
"""


@pytest.mark.slow
@NEEDS_POSTGRES
@pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="needs mlflow[auth]")
def test_a_search_is_tracked_with_credentials_from_the_environment(
    object_store: ObjectStore, trouble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "team.yaml").write_text(SPACE)
    storage = f"s3://{BUCKET}/store"
    with running_postgres() as database:
        monkeypatch.setenv("PGPASSWORD", database.password)
        (tmp_path / "users").mkdir()
        with local_server(tmp_path / "users", database.uri, auth=True, artifacts=f"s3://{BUCKET}/files") as server:
            monkeypatch.delenv("PGPASSWORD")
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
            with troubles():
                options = Options("team", tracking_uri=server.uri)
                outcome = prune_search.launch(tmp_path / "team.yaml", where=Where(storage=storage), options=options)
            assert outcome.as_data()["trials"]["completed"] == 2
            folder = outcome.records.folder
            deliver_rest(folder)
            _check(read_search(folder), server.uri)
    # Files lie in the object store, and the users' passwords are nobody else's to read.
    assert any(path.name == "recipe.yaml" for path in ObjectPath(BUCKET, "files").walk())
    assert (tmp_path / "users" / "mlflow-users.db").stat().st_mode & 0o077 == 0
    log = (tmp_path / "users" / "server.log").read_text()
    assert ADMIN[1] not in log
    assert database.password not in log


def _check(search: SearchRecords, uri: str) -> None:
    """MLflow has exactly the metrics of the records, of every trial and of the search."""
    from mlflow import MlflowClient

    found = kept_runs(MlflowClient(uri), search.definition["experiment"], search.definition["id"])
    views = {view.key: view for view in project(search, state_of(search))}
    assert sorted(item.key for item in found) == sorted(views)
    for item in found:
        points = [(point.name, point.step, point.time_ms, point.value) for point in views[item.key].content.points]
        assert sorted(item.rows) == sorted(points)
        assert points
