"""SQLite's files as URIs, whatever their names, and the MLflow of a search wherever its storage is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from file_names import names
from made_search import make_search
from sqlalchemy.engine import make_url

from prune_search.ledger.records import read_search
from prune_search.ledger.tracking_uri import absolute_sqlite, default_uri, kept_uri, sqlite_file, sqlite_uri, uri_of
from prune_search.storage.places import resolved


def test_sqlalchemy_finds_the_file_that_is_meant_whatever_its_name() -> None:
    for name in names(300):
        file = Path("/somewhere") / name / "mlflow.db"
        uri = sqlite_uri(file)
        assert make_url(uri).database == str(file)
        assert make_url(uri).get_backend_name() == "sqlite"
        assert not make_url(uri).query
        assert sqlite_file(uri) == file
        # MLflow makes the folders of what follows this word, as it is written there.
        assert not uri.startswith("sqlite:///") or uri == f"sqlite:///{file}"


def test_a_uri_that_a_user_types_means_what_sqlalchemy_means_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "job%2Fx?"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for typed in ("sqlite:///runs.db", "sqlite+pysqlite:///runs%2Edb", "sqlite:///../job%252Fx%3F/runs.db"):
        made = make_url(absolute_sqlite(typed))
        assert made.database == str(folder / "runs.db")
    assert make_url(absolute_sqlite("sqlite:///runs.db?timeout=5")).query == {"timeout": "5"}
    for none in ("sqlite://", "sqlite:///", "sqlite:///:memory:", "postgresql://me@host/db", "http://host:5000"):
        assert sqlite_file(none) is None
        assert absolute_sqlite(none) == none


def test_a_database_in_the_storage_is_kept_relative_and_found_where_the_storage_is() -> None:
    for name in names(100):
        storage, elsewhere = Path("/first") / name, Path("/second") / name[::-1]
        kept = kept_uri(default_uri(storage), storage)
        assert kept == "sqlite:///mlflow.db"
        assert uri_of({"tracking_uri": kept}, elsewhere) == default_uri(elsewhere)
        own = sqlite_uri(storage / "runs" / "100%.db")
        assert uri_of({"tracking_uri": kept_uri(own, storage)}, storage) == own
        assert make_url(uri_of({"tracking_uri": kept_uri(own, storage)}, elsewhere)).database == str(
            elsewhere / "runs" / "100%.db"
        )
    for outside in ("sqlite:////other/mlflow.db", "https://mlflow.example", "postgresql://me@db/mlflow"):
        assert kept_uri(outside, Path("/first")) == outside


def test_the_address_of_version_0_1_follows_the_storage_where_its_folder_is_gone(tmp_path: Path) -> None:
    here, there = tmp_path / "here%2F?x=1", tmp_path / "there"
    folder = make_search(here, "old", trials=1, points=1)
    # As version 0.1 wrote it.
    written = json.loads((folder / "search.json").read_text()) | {"tracking_uri": f"sqlite:///{here}/mlflow.db"}
    (folder / "search.json").write_text(json.dumps(written))
    assert read_search(folder).tracking_uri == default_uri(here)
    shutil.move(here, there)
    assert read_search(there / "searches" / "old").tracking_uri == default_uri(there)
    # One that is somewhere else stays there.
    other = tmp_path / "other" / "mlflow.db"
    other.parent.mkdir()
    assert uri_of(written | {"tracking_uri": f"sqlite:///{other}"}, there) == f"sqlite:///{other}"


def test_dots_that_lead_up_are_resolved_and_links_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below")
    monkeypatch.chdir(tmp_path)
    assert resolved(Path("real/../store")) == tmp_path / "store"
    assert resolved(Path("link/store")) == tmp_path / "link" / "store"
    # The parent of what a link leads to.
    assert resolved(Path("link/../store")) == tmp_path / "real" / "store"
