"""A paused trial goes on from the state that was stored at its rung, and ends as one that was never paused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_search import make_definition

from prune_search.ledger.account import account_of
from prune_search.ledger.pauses import where_paused
from prune_search.ledger.records import Recorder, SearchRecords, TrialRecords, read_search, read_trial, trial_id
from prune_search.recipe.recipe import digest_of
from prune_search.recipe.space import read_space
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.promotions import Promotions
from prune_search.search.ray.worker import TrialJob, run_job

SMALL = {"preset": "random", "task": {"model": {"name": "mlp", "hidden": [12]}, "seed": 0}, "train": {"steps": "3ep"}}
CHAIN = {**SMALL, "preset": "lottery-ticket", "rounds": 3}
STEPS = 27


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def search_of(storage: Path, scheduler: Mapping[str, Any] | str) -> tuple[Path, dict[str, Any]]:
    raw = {**SMALL, "search": {"scheduler": scheduler, "objectives": ["maximize val/accuracy"]}}
    return make_definition(storage, "pausing"), dict(read_space(raw, "a test").search)


def run(folder: Path, block: Mapping[str, Any], number: int, recipe: Mapping[str, Any]) -> TrialRecords:
    """One attempt of a trial, with the worker's own code, in this process."""
    canonical = read_space(recipe, "a test").only_recipe().canonical
    proposed = {"number": number, "recipe": canonical, "params": {}, "digest": digest_of(canonical)}
    if not (folder / "trials" / trial_id(number)).exists():
        Recorder(folder, trial_id(number)).write("proposed", proposed)
    options = LaunchOptions(str(folder.parent.parent), device="cpu")
    run_job(TrialJob(str(folder), trial_id(number), canonical, block, options))
    return read_trial(folder / "trials" / trial_id(number))


def promote(folder: Path, block: Mapping[str, Any]) -> str:
    """The trial that goes on, and the record of it, as the driver writes it."""
    promotions = Promotions.of(block)
    assert promotions is not None
    records: SearchRecords = read_search(folder)
    for trial in records.numbered():
        promotions.learn(trial)
    found = promotions.best(None, None)
    assert found is not None
    assert found.paused is not None
    assert found.ended is not None
    place = {key: found.paused[key] for key in ("round", "step", "share") if key in found.paused}
    Recorder(folder, found.id, found.ended.attempt).write("promoted", {"turn": 99, **place})
    return found.id


def test_a_promoted_trial_trains_what_is_left_and_nothing_twice(tmp_path: Path) -> None:
    folder, block = search_of(tmp_path, {"name": "asha-promote", "grace": "60%", "eta": 2})
    sparsities = {1: 0.5, 2: 0.9, 3: 0.98, 4: 0.99}
    recipes = {number: {**SMALL, "mask": {"sparsity": sparsity}} for number, sparsity in sparsities.items()}
    assert run(folder, block, 1, recipes[1]).status == "completed"
    resting = run(folder, block, 2, recipes[2])
    assert (resting.status, where_paused(resting)) == ("paused", "at 60%")
    assert resting.paused is not None
    rung = int(resting.paused["step"])
    assert account_of(resting).trained == rung < STEPS
    for number in (3, 4):
        assert run(folder, block, number, recipes[number]).status == "paused"
    assert promote(folder, block) == "000002"
    whole = run(folder, block, 2, recipes[2])
    assert (whole.status, len(whole.attempts)) == ("completed", 2)
    assert whole.ended is not None
    assert whole.ended.data["steps_trained"] == STEPS - rung
    account = account_of(whole)
    assert (account.trained, account.replayed, account.repeated, account.abandoned) == (STEPS, 0, 0, 0)
    other, plain = search_of(tmp_path / "other", "none")
    assert run(other, plain, 2, recipes[2]).result["weights_sha256"] == whole.result["weights_sha256"]


def test_a_trial_rests_after_a_round_too(tmp_path: Path) -> None:
    folder, block = search_of(tmp_path, {"name": "asha-promote", "grace": "3ep", "eta": 2})
    tasks = [{**SMALL["task"], "seed": seed} for seed in range(4)]  # type: ignore[dict-item]
    found = [run(folder, block, number, {**CHAIN, "task": task}) for number, task in enumerate(tasks, 1)]
    resting = [trial for trial in found if trial.status == "paused"]
    assert resting
    assert {where_paused(trial) for trial in resting} <= {"after round 1", "after round 2"}
    for trial in resting:
        assert trial.paused == trial.measured[-1].data
