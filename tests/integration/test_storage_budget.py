"""Any state can be removed at any time: what is needed is trained again, to the same bits, at the told cost."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Typed
from object_store import BUCKET, ObjectStore
from small_trials import Blocks, SetupOf, blocks, greg, hashes

import prune_search
from prune_search import Where
from prune_search.storage import inventory as census_module
from prune_search.storage.inventory import Inventory, take_inventory
from prune_search.storage.manifests import Key, remove_state
from prune_search.storage.places import StoragePath, place_of
from prune_search.trial.run import run_trial

TRIALS: dict[str, Blocks] = {
    "late-rewinding": blocks("late-rewinding", rounds=3, weights={"at": "5it"}),
    "learning-rate-rewinding": blocks("learning-rate-rewinding", rounds=2, retrain={"clock": "end-5it"}),
    "greg-2": greg("greg-2"),
    "greg-1, ended early": greg("greg-1", ratio=1.0),
}


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    """A storage of either kind."""
    if request.param == "folder":
        return tmp_path
    request.getfixturevalue("object_store")
    return place_of(f"s3://{BUCKET}/store")


def in_steps(taken: Inventory) -> Inventory:
    """The same storage, where each step takes a second."""
    states = {key: replace(state, seconds_per_step=1.0) for key, state in taken.states.items()}
    return Inventory(states, taken.leased, taken.now)


def drawn(taken: Inventory, draw: random.Random) -> set[Key]:
    return {key for key in sorted(taken.states) if draw.random() < 0.5}


@pytest.mark.parametrize("trial", TRIALS)
def test_random_removals_change_nothing_but_the_steps(setup_of: SetupOf, storage: StoragePath, trial: str) -> None:
    raw = TRIALS[trial]
    whole = run_trial(setup_of(raw), storage)
    for seed in range(3):
        taken = take_inventory(storage)
        lost = drawn(taken, random.Random(seed))
        for key in lost:
            remove_state(taken.states[key].folder)
        again = run_trial(setup_of(raw), storage)
        assert hashes(again) == hashes(whole)
        assert again.metrics == whole.metrics
        assert again.steps[0] <= whole.steps[0]


@pytest.mark.parametrize("seed", range(8))
def test_the_cost_that_is_told_is_what_is_trained(setup_of: SetupOf, tmp_path: Path, seed: int) -> None:
    """The states that a run asks for are the ends of its retrainings; what else is lost counts where they need it."""
    raw = TRIALS["late-rewinding"]
    run_trial(setup_of(raw), tmp_path)
    taken = in_steps(take_inventory(tmp_path))
    lost = drawn(taken, random.Random(seed))
    for key in lost:
        remove_state(taken.states[key].folder)
    asked = [key for key in lost if taken.states[key].name.startswith("retrain")]
    assert len({state.address for state in taken.states.values()}) == 4
    told = taken.rebuilding(asked, taken.states.keys() - lost)
    assert run_trial(setup_of(raw), tmp_path).steps[0] == told


def test_every_state_says_how_long_its_steps_took(setup_of: SetupOf, tmp_path: Path) -> None:
    run_trial(setup_of(TRIALS["late-rewinding"]), tmp_path)
    states = take_inventory(tmp_path).states.values()
    assert all(state.seconds_per_step is not None and 0 < state.seconds_per_step < 60 for state in states)
    by_name = {state.name: state for state in states}
    first = by_name["train"].address
    rests = {name: sorted(step for at, step in state.rests_on if at == first) for name, state in by_name.items()}
    assert rests == {
        "train": [],
        "retrain (round 1)": [5, 18],
        "retrain (round 2)": [5],
        "retrain (round 3)": [5],
    }
    assert {at for at, _ in by_name["retrain (round 2)"].rests_on} == {first, by_name["retrain (round 1)"].address}


def test_a_run_within_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census_module, "YOUNG_S", 0.0)
    free, bound = tmp_path / "free", tmp_path / "bound"
    whole = prune_search.run(TRIALS["late-rewinding"], where=Where(storage=free))
    kept = take_inventory(free)
    limit = kept.size // 2
    for _ in range(2):
        result = prune_search.run(TRIALS["late-rewinding"], where=Where(storage=bound, storage_budget=limit))
        assert hashes(result) == hashes(whole)
        assert 0 < take_inventory(bound).size <= limit
    monkeypatch.setenv("PRUNE_SEARCH_STORAGE_BUDGET", "0")
    assert hashes(prune_search.run(TRIALS["late-rewinding"], where=Where(storage=bound))) == hashes(whole)
    assert take_inventory(bound).states == {}


def test_the_verb(storage: StoragePath, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("storage", "--storage", str(storage))
    empty = json.loads(typed(*words, "--json").out)
    assert (empty["states"], empty["bytes"], empty["rebuild_seconds"]) == (0, 0, 0)
    prune_search.run(TRIALS["late-rewinding"], where=Where(storage=storage))
    data = json.loads(typed(*words, "--json").out)
    assert (data["vertices"], data["searches"], data["running"]) == (4, 0, 0)
    assert [row["stretch"] for row in data["rows"]] == ["retrain", "train"]
    assert sum(row["bytes"] for row in data["rows"]) == data["bytes"] > 0
    assert sum(row["states"] for row in data["rows"]) == data["states"] == data["in_use"]["states"]
    said = typed(*words, "--budget", "1kB", "--clean")
    assert (said.code, said.err) == (0, "")
    assert "removed 0 states" in said.out
    assert "states in use are kept" in said.out
    monkeypatch.setattr(census_module, "YOUNG_S", 0.0)
    told = json.loads(typed(*words, "--budget", "20kB", "--json").out)
    assert told["would_go"]["states"] > 0
    assert told["states"] == data["states"]
    assert "--clean would remove" in typed(*words, "--budget", "20kB").out
    cleaned = json.loads(typed(*words, "--budget", "20kB", "--clean", "--json").out)
    assert cleaned["freed"]["states"] == told["would_go"]["states"]
    assert cleaned["bytes"] <= 20_000
    assert "all" in typed(*words).out
    wrong = typed(*words, "--budget", "many")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    wrong = typed("run", "snip", "--storage", str(storage), "--storage-budget", "many")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)


def test_the_verb_where_the_service_is_away(object_store: ObjectStore, typed: Typed) -> None:
    with object_store.away():
        said = typed("storage", "--storage", f"s3://{BUCKET}/store")
    assert said.code == 3
    assert said.err.count("\n") == 1
    assert "the object store cannot be reached" in said.err
