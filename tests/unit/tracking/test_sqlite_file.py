"""MLflow's SQLite file before MLflow opens it: its mode, whether it can be used, its places of files after a move."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from file_names import names

from prune_search.ledger.tracking_uri import sqlite_file, sqlite_uri
from prune_search.tracking.server import UnreachableError, prepare
from prune_search.tracking.sqlite_file import check_database, follow, prepare_database


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_the_file_is_made_with_the_mode_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        file = tmp_path / "new" / "mlflow.db"
        prepare_database(file, fill)
        prepare_database(file, cannot)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert [path.name for path in file.parent.iterdir()] == ["mlflow.db"]


def fill(uri: str) -> None:
    """Make a table in the file of a URI."""
    file = sqlite_file(uri)
    assert file is not None
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE x (y)")
    connection.commit()
    connection.close()


def cannot(uri: str) -> None:
    raise RuntimeError("away")


def test_a_database_is_there_whole_or_not_at_all_and_the_first_of_two_stays(tmp_path: Path) -> None:
    file = tmp_path / "[a]*b?" / "mlflow.db"
    with pytest.raises(RuntimeError, match="away"):
        prepare_database(file, cannot)
    assert list(file.parent.iterdir()) == []
    # What a process that was killed has left: it goes once nobody can be writing to it any more.
    (file.parent / ".tmp-999999999-0123456789abcdef").write_bytes(b"half")
    os.utime(file.parent / ".tmp-999999999-0123456789abcdef", (0, 0))

    def overtaken(uri: str) -> None:
        fill(uri)
        file.write_bytes(b"")

    prepare_database(file, overtaken)
    assert [path.name for path in file.parent.iterdir()] == ["mlflow.db"]
    assert file.stat().st_size == 0


def test_a_file_that_mlflow_could_not_use_is_refused_at_once_and_in_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("These are my notes. " * 100)
    with pytest.raises(UnreachableError, match=r"other\.db cannot be used: file is not a database$"):
        prepare(sqlite_uri(other))
    with pytest.raises(UnreachableError, match=r"other\.db/mlflow\.db cannot be used: "):
        prepare(sqlite_uri(other / "mlflow.db"))
    assert other.read_text().startswith("These are my notes.")
    check_database(tmp_path / "not" / "there.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db"]


def database(storage: Path, root: Path, runs: tuple[str, ...]) -> Path:
    """A database with the tables and columns of MLflow 3.17 that hold places, as a search leaves it."""
    file = storage / "mlflow.db"
    (storage / "mlartifacts").mkdir(parents=True)
    place = root.as_uri()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE experiments (artifact_location)")
        connection.execute("CREATE TABLE runs (artifact_uri)")
        connection.execute("CREATE TABLE model_versions (source, storage_location)")
        connection.executemany(
            "INSERT INTO experiments VALUES (?)", [(place,), (f"{place}/7",), ("s3://b/x",), (None,)]
        )
        connection.executemany("INSERT INTO runs VALUES (?)", [(f"{place}/{run}/artifacts",) for run in runs])
        connection.execute("INSERT INTO model_versions VALUES (?, NULL)", (f"{place}-not-this/m",))
    connection.close()
    return file


def places(file: Path) -> list[str | None]:
    connection = sqlite3.connect(file)
    found = [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("experiments", "runs")]
    found.append(connection.execute("SELECT source FROM model_versions").fetchall())
    connection.close()
    return [place for rows in found for (place,) in rows]


def test_the_places_of_files_follow_a_storage_that_was_moved(tmp_path: Path) -> None:
    rng = random.Random(5)
    for number, name in enumerate(names(12)):
        home = tmp_path / str(number)
        old, new = home / "old" / name, home / rng.choice(["new", "100%"]) / name[::-1].replace("/", "_")
        file = database(old, old / "mlartifacts", ("one", "two"))
        follow(file, old / "mlartifacts")
        new.parent.mkdir()
        shutil.move(old, new)
        before, after = (folder / "mlartifacts" for folder in (old, new))
        follow(new / "mlflow.db", after)
        expected = [after.as_uri(), f"{after.as_uri()}/7", "s3://b/x", None]
        expected += [f"{after.as_uri()}/{run}/artifacts" for run in ("one", "two")]
        # What only begins alike is another folder.
        assert places(new / "mlflow.db") == [*expected, f"{before.as_uri()}-not-this/m"]
        assert not old.exists()


def test_the_files_of_a_copied_storage_are_its_own_and_those_of_another_storage_stay_where_they_are(
    tmp_path: Path,
) -> None:
    old, copy = tmp_path / "old", tmp_path / "copy"
    database(old, old / "mlartifacts", ("one",))
    (old / "mlartifacts" / "one" / "artifacts").mkdir(parents=True)
    shutil.copytree(old, copy)
    follow(copy / "mlflow.db", copy / "mlartifacts")
    assert f"{(copy / 'mlartifacts').as_uri()}/one/artifacts" in places(copy / "mlflow.db")
    assert f"{(old / 'mlartifacts').as_uri()}/one/artifacts" in places(old / "mlflow.db")
    # A search of one storage that reports to the database of another: its files lie in its own.
    third = tmp_path / "third"
    database(third, old / "mlartifacts", ("one",))
    follow(third / "mlflow.db", third / "mlartifacts")
    assert f"{(old / 'mlartifacts').as_uri()}/one/artifacts" in places(third / "mlflow.db")


def test_a_new_and_a_foreign_database_have_no_places_to_correct(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    prepare_database(file, lambda uri: None)
    follow(file, tmp_path / "mlartifacts")
    assert file.stat().st_size == 0
