"""Trials that several workers train together, through Ray Train: what they find, and what becomes of a lost worker."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_task import given
from real_mlflow import MLFLOW_WARNINGS
from real_search import HALT, SMALL, Searches, statuses, troubles

import prune_search
from prune_search import Where
from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import UserError
from prune_search.recipe.schema import BLOCKS
from prune_search.recipe.space import read_space
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ray.worker import TrialJob, setup_of

pytestmark = [MLFLOW_WARNINGS, pytest.mark.usefixtures("known")]

TOGETHER = f"""\
{SMALL}
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.95}}}}
PARADIGM
search: {{trials: 1, concurrency: 1, sampler: grid, controls: false, workers_per_trial: 2, seed: 3}}
"""
# One is enough but for a change of how workers train together: a worker of Ray Train takes long to start.
PARADIGMS = [
    "{preset: rigl, retrain: {dynamics: {name: rigl, every: 5it}}}",
    pytest.param("{preset: lottery-ticket, rounds: 2}", marks=pytest.mark.long),
]
HALTING = """\
task: {data: digits, model: halting, seed: 0}
train: {steps: 3ep, batch: 128, optimizer: {name: sgd, lr: 0.1}}
mask: {sparsity: {hole: uniform, low: 0.7, high: 0.8}}
preset: snip
search: {trials: 1, concurrency: 1, controls: false, workers_per_trial: 2}
"""


@pytest.fixture(scope="module", autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs, and the model that makes trouble is known."""
    with troubles():
        yield


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_two_workers_find_what_one_finds(searches: Searches, tmp_path: Path, paradigm: str) -> None:
    together = searches.launch(TOGETHER.replace("PARADIGM", f"any: [{paradigm}]"), "together", storage=tmp_path)
    assert statuses(together.records) == ["completed"]
    for trial in together.records.numbered():
        recipe = {block: trial.recipe[block] for block in BLOCKS}
        alone = prune_search.run(recipe, where=Where(storage=tmp_path / "alone"))
        data = alone.as_data()
        assert trial.result["environment"] == {**data["environment"], "workers": 2}
        assert trial.result["mask_sha256"] == data["mask_sha256"]
        assert trial.result["weights_sha256"] != data["weights_sha256"]
        assert trial.metrics["val/loss"] == pytest.approx(data["metrics"]["val/loss"], rel=1e-4)


def test_two_workers_shard_a_network_and_find_what_one_finds(searches: Searches, tmp_path: Path) -> None:
    text = TOGETHER.replace("PARADIGM", "any: [{preset: lottery-ticket, rounds: 2}]")
    sharded = searches.launch(text, "sharded", storage=tmp_path, search__sharded=True)
    (trial,) = sharded.records.numbered()
    assert trial.status == "completed"
    recipe = {block: trial.recipe[block] for block in BLOCKS}
    data = prune_search.run(recipe, where=Where(storage=tmp_path / "alone")).as_data()
    assert trial.result["environment"] == {**data["environment"], "workers": 2, "sharded": True}
    assert trial.result["mask_sha256"] == data["mask_sha256"]
    assert trial.metrics["val/loss"] == pytest.approx(data["metrics"]["val/loss"], rel=1e-4)
    # What was stored is a whole network's: one process exports it, and trains nothing for that.
    exported = prune_search.export("sharded", tmp_path / "out", where=Where(storage=tmp_path)).result
    assert exported.steps[0] == 0
    assert exported.as_data()["environment"] == trial.result["environment"]
    assert exported.weights_sha256 == trial.result["weights_sha256"]
    assert "test/accuracy" in exported.test_metrics


def test_two_workers_train_a_task_whose_batches_are_mappings(tmp_path: Path) -> None:
    sets, where = given("two_inputs", tmp_path)
    recipe = {"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.7}}}
    search = {"trials": 1, "concurrency": 1, "controls": False, "workers_per_trial": 2}
    space = tmp_path / "mappings.yaml"
    space.write_text(json.dumps({**recipe, "search": search}))
    together = prune_search.launch(space, set=sets, where=where)
    (trial,) = together.records.numbered()
    assert trial.status == "completed"
    filled = {block: trial.recipe[block] for block in BLOCKS}
    alone = prune_search.run(filled, where=replace(where, storage=tmp_path / "alone"))
    assert trial.result["environment"]["workers"] == 2
    assert trial.result["mask_sha256"] == alone.masks.sha256
    for metric in ("val/loss", "val/accuracy"):
        assert trial.metrics[metric] == pytest.approx(alone.metrics[metric], rel=1e-4)


@pytest.mark.long
def test_a_worker_that_is_lost_costs_an_attempt(searches: Searches, trouble: Path, tmp_path: Path) -> None:
    file = trouble / HALT
    file.with_suffix(".pid").unlink(missing_ok=True)
    file.write_text("12")
    over = threading.Event()

    def kill() -> None:
        told = file.with_suffix(".pid")
        while not over.wait(0.05):
            if told.exists():
                os.kill(int(told.read_text()), signal.SIGKILL)
                return

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    try:
        lost = searches.launch(HALTING, "lost-worker", storage=tmp_path)
    finally:
        over.set()
        killer.join()
    (trial,) = lost.records.numbered()
    assert trial.status == "completed"
    assert len(trial.attempts) == 2


def test_the_places_of_a_lost_attempt_are_given_up() -> None:
    """Ray keeps them while the job goes on, though whoever asked for them is gone."""
    import ray
    from ray.util import get_current_placement_group, placement_group, placement_group_table

    from prune_search.search.ray.data_parallel import give_up, places_of_this_process

    @ray.remote(num_cpus=0)
    class Starter:
        def start(self) -> str:
            held = placement_group([{"CPU": 1.0}])
            ray.get(held.ready())
            return str(held.id.hex())

    starter = Starter.remote()  # type: ignore[attr-defined]
    places = ray.get(starter.start.remote())
    ray.kill(starter)
    assert _state(placement_group_table, places) == "CREATED"
    give_up(places)
    assert _state(placement_group_table, places) == "REMOVED"
    # It is over, or was never there, or is not known.
    for other in (places, "0" * len(places), ""):
        give_up(other)
    assert get_current_placement_group() is None
    assert places_of_this_process() == ""


def _state(table: Callable[[], Mapping[str, Mapping[str, object]]], places: str) -> object:
    return table()[places]["state"]


def test_more_workers_than_there_is_room_for_are_refused(searches: Searches) -> None:
    with pytest.raises(UserError, match="a trial needs 1 CPUs for each of its 3 workers, but this machine has 2"):
        searches.launch(TOGETHER.replace("PARADIGM", "preset: snip"), "too-many", search__workers_per_trial=3)


def test_a_batch_that_is_too_small_for_its_workers_is_refused() -> None:
    space = strict_yaml.load(HALTING.replace("batch: 128", "batch: 1"))
    recipe = read_space({**space, "mask": {"sparsity": 0.8}}, "small").only_recipe()
    job = TrialJob("", "000001", recipe.blocks, {"workers_per_trial": 2}, LaunchOptions("", device="cpu"))
    with pytest.raises(UserError, match=r"^train\.batch: 1 examples cannot be split among 2 workers$"):
        setup_of(job, torch.device("cpu"))
