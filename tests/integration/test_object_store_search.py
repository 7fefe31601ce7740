"""Searches whose storage is an S3 service over HTTP: the real Ray, the real MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Typed
from object_store import BUCKET, KEY_ID, SECRET, ObjectStore
from real_mlflow import MLFLOW_WARNINGS
from real_search import SMALL, Started, outcomes, troubles

import prune_search
from prune_search import Options, Where
from prune_search.api.outcome import Outcome
from prune_search.ledger.records import SearchRecords, read_search, search_folder
from prune_search.recipe.problems import UserError
from prune_search.storage.files import side_folder
from prune_search.storage.inventory import take_inventory
from prune_search.storage.lease import Holder, Lease, read_holder
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import place_of

pytestmark = [MLFLOW_WARNINGS]

STORAGE = f"s3://{BUCKET}/store"
SPACE = f"""\
# prune-search launch space.yaml
{SMALL}
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.95}}}}
any:
- preset: snip
- preset: lottery-ticket
  rounds: 2
search: {{trials: 2, concurrency: 2, reproducible: true, seed: 3, controls: false}}
"""
LONG = SPACE.replace("steps: 3ep", "steps: 100ep").replace("trials: 2", "trials: 4")


@pytest.fixture
def known(trouble: Path) -> Iterator[None]:
    """Ray runs."""
    with troubles():
        yield


def launch(folder: Path, name: str, storage: str | Path) -> Outcome:
    file = folder / f"{name}.yaml"
    file.write_text(SPACE)
    return prune_search.launch(file, where=Where(storage=storage), options=Options(name))


@pytest.mark.usefixtures("known")
def test_a_search_in_an_object_store_and_one_that_takes_it_up(
    object_store: ObjectStore, tmp_path: Path, typed: Typed
) -> None:
    there = launch(tmp_path, "there", STORAGE)
    assert there.as_data()["steps_trained"] > 0
    assert there.as_data()["storage"] == STORAGE
    assert there.as_data()["tracking_uri"] == f"sqlite:///{side_folder(place_of(STORAGE))}/mlflow.db"
    again = launch(tmp_path, "again", STORAGE)
    assert outcomes(again.records, "measured") == outcomes(there.records, "measured")
    assert again.as_data()["steps_trained"] == 0
    assert again.as_data()["steps_saved"] > 0
    # What has ended is found ended by whoever looks at it.
    listed = json.loads(typed("list", "--storage", STORAGE, "--json").out)
    assert [(row["name"], row["state"]) for row in listed["searches"]] == [("again", "finished"), ("there", "finished")]
    assert json.loads(typed("status", "there", "--storage", STORAGE, "--json").out)["trials"]["completed"] == 2
    assert len(json.loads(typed("compare", "there", "--storage", STORAGE, "--json").out)["rows"]) > 0
    assert typed("delete", "there", "--storage", STORAGE, "--yes").code == 0
    assert "again" in typed("status", "there", "--storage", STORAGE).err
    place = place_of(STORAGE)
    assert isinstance(place, ObjectPath)
    everything = b"".join(path.read_bytes() for path in place.walk() if path.name.endswith(".json"))
    assert KEY_ID.encode() not in everything
    assert SECRET.encode() not in everything


@pytest.mark.long
@pytest.mark.usefixtures("known")
def test_a_search_whose_states_are_removed_while_it_runs_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    free = prune_search.launch(tmp_path / "long.yaml", where=Where(storage=tmp_path / "free"))
    monkeypatch.setattr("prune_search.storage.inventory.YOUNG_S", 0.0)
    monkeypatch.setattr("prune_search.storage.budget.LOOK_EVERY_S", 0.0)
    bound = Where(storage=tmp_path / "bound", storage_budget=0)
    held = prune_search.launch(tmp_path / "long.yaml", where=bound)
    assert take_inventory(tmp_path / "bound").states == {}
    assert take_inventory(tmp_path / "free").size > 0
    assert outcomes(held.records, "measured") == outcomes(free.records, "measured")


def test_of_two_leases_one_holds(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_search.storage.object_files.SETTLE_S", 0.05)
    monkeypatch.setattr("prune_search.storage.lease.WATCH_S", 0.3)
    monkeypatch.setattr("prune_search.storage.lease.LOOK_EVERY_S", 0.05)
    folder = search_folder(place_of(STORAGE), "one")
    with Lease(folder, lost=lambda: None):
        with pytest.raises(UserError, match="is held by process"), Lease(folder, lost=lambda: None):
            pass
        assert read_holder(folder) is not None
    assert read_holder(folder) is None
    lost = Holder("another-machine", 1, "1", "token", time.time() - 3600)
    lease = folder / "lease.json"
    assert isinstance(lease, ObjectPath)
    lease.write_bytes(json.dumps(vars(lost)).encode())
    with Lease(folder, lost=lambda: None) as held:
        now = read_holder(folder)
        assert now is not None
        assert now.token == held.token


def test_what_cannot_be_used_is_said_in_one_line(object_store: ObjectStore, tmp_path: Path, typed: Typed) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    for place, reason in (
        (f"s3://{KEY_ID}:{SECRET}@{BUCKET}/x", "do not put credentials into the name"),
        ("s3://no-such-bucket/x", "the object store has no such bucket"),
        ("gs://bucket/x", "must be a folder or s3://BUCKET/PREFIX"),
    ):
        for words in (("launch", str(tmp_path / "space.yaml")), ("run", "snip")):
            said = typed(*words, "--storage", place)
            assert said.code == 2
            assert reason in said.err
            # A launch says its plan first.
            assert [reason in line for line in said.err.splitlines() if "s to train;" not in line] == [True]
            assert SECRET not in said.err
    said = typed("run", "snip", "--out", f"{STORAGE}/out", "--storage", str(tmp_path))
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--out: must be a folder on this machine" in said.err


def started(folder: Path, trouble: Path, *words: str) -> Started:
    """A search in the object store, in a process of its own."""
    return Started.of(folder, trouble, place_of(STORAGE), "long", *words, "--json")


def resumed(folder: Path, trouble: Path) -> tuple[dict[str, Any], SearchRecords]:
    """Go on to the end."""
    said = started(folder, trouble, "resume", "long").said(900)
    assert said.code == 0, said.err
    data: dict[str, Any] = json.loads(said.out)
    return data, read_search(search_folder(place_of(STORAGE), "long"))


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A folder with the space of a search that takes a while."""
    (tmp_path / "long.yaml").write_text(LONG)
    return tmp_path


@pytest.mark.long
@pytest.mark.faults
def test_a_killed_search_goes_on_and_equals_an_unbroken_one(
    object_store: ObjectStore, long: Path, trouble: Path
) -> None:
    unbroken = prune_search.launch(long / "long.yaml", where=Where(storage=long / "store"))
    search = started(long, trouble, "launch", "long.yaml")
    search.wait_for_ended(2)
    search.kill_all()
    data, records = resumed(long, trouble)
    assert data["trials"]["completed"] + data["trials"]["duplicates"] == 4
    assert outcomes(records, "measured") == outcomes(unbroken.records, "measured")


@pytest.mark.long
@pytest.mark.faults
def test_where_the_service_goes_away_the_search_ends_in_one_line_and_goes_on_later(
    object_store: ObjectStore, long: Path, trouble: Path
) -> None:
    unbroken = prune_search.launch(long / "long.yaml", where=Where(storage=long / "store"))
    search = started(long, trouble, "launch", "long.yaml")
    search.wait_for_ended(1)
    with object_store.away():
        said = search.said(900)
    assert said.code == 3, said.err
    lines = [line for line in said.err.splitlines() if line.startswith("prune-search:")]
    assert len(lines) == 1
    assert "the object store cannot be reached" in lines[0]
    _, records = resumed(long, trouble)
    assert outcomes(records, "measured") == outcomes(unbroken.records, "measured")
