"""A scheduler stops trials by whatever metric the search names, or the search is refused before anything is created."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from arrays import arrays
from command_line import Typed
from made_search import make_definition
from plugin_metrics import registered
from simulated_runs import Simulated
from simulated_search import SPACE

from prune_search.ledger.records import Recorder, read_trial, trial_id
from prune_search.recipe.facts import Metric
from prune_search.recipe.recipe import digest_of
from prune_search.recipe.space import read_space
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ray.worker import TrialJob, run_job
from prune_search.tasks.metrics import Measured
from prune_search.tasks.passes import evaluating

SMALL = {"preset": "random", "task": {"model": {"name": "mlp", "hidden": [12]}, "seed": 0}, "train": {"steps": "3ep"}}
SCHEDULERS = [{"name": "asha", "grace": "1ep", "eta": 2}, {"name": "median", "grace": "1ep", "startup": 1}]
FLOPS = "train/forward_flops_sparse"


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def least_weight(measured: Measured) -> float:
    """The mean absolute output on the validation examples: a plug-in's metric that runs the network."""
    model, data = measured.model, measured.data
    assert model is not None
    assert data is not None
    with evaluating(model):
        return float(model(arrays(data).validation.inputs).abs().mean())


@pytest.fixture
def own_metric() -> Iterator[str]:
    with registered("val/output", least_weight, Metric(best="minimize", split="validation", always=False)) as name:
        yield name


def run_one_after_the_other(storage: Path, search: Mapping[str, Any], sparsities: list[float]) -> list[str]:
    """Train trials with the worker's own code, in this process; how each ended."""
    raw = {**SMALL, "mask": {"sparsity": {"hole": "uniform", "low": 0.0, "high": 0.99}}, "search": dict(search)}
    block = dict(read_space(raw, "a test").search)
    folder = make_definition(storage, "stopping")
    ended = []
    for number, sparsity in enumerate(sparsities, 1):
        recipe = read_space({**SMALL, "mask": {"sparsity": sparsity}}, "a test").only_recipe()
        proposed = {"number": number, "recipe": recipe.canonical, "params": {}, "digest": digest_of(recipe.canonical)}
        Recorder(folder, trial_id(number)).write("proposed", proposed)
        job = TrialJob(
            str(folder), trial_id(number), recipe.canonical, block, LaunchOptions(str(storage), device="cpu")
        )
        ended.append(run_job(job))
    return ended


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: str(scheduler["name"]))
def test_the_trial_that_costs_more_is_stopped_after_its_first_epoch(
    tmp_path: Path, scheduler: Mapping[str, Any]
) -> None:
    search = {"scheduler": scheduler, "objectives": [f"minimize {FLOPS}"]}
    assert run_one_after_the_other(tmp_path, search, [0.9, 0.2, 0.95]) == ["completed", "stopped", "completed"]
    stopped = read_trial(tmp_path / "searches/stopping/trials/000002")
    (record,) = stopped.measured
    assert record.data["step"] == 9
    assert set(record.data["metrics"]) == {"val/accuracy", "val/loss", FLOPS}
    # Of the network as it was there: a third of what all three epochs would have cost.
    done = read_trial(tmp_path / "searches/stopping/trials/000001")
    assert done.measured[0].data["metrics"][FLOPS] == pytest.approx(done.metrics[FLOPS] / 3)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: str(scheduler["name"]))
def test_trials_are_stopped_by_a_plug_ins_metric(tmp_path: Path, scheduler: Mapping[str, Any], own_metric: str) -> None:
    search = {"scheduler": scheduler, "objectives": [f"minimize {own_metric}"]}
    # Without weights the outputs are near 0.
    assert run_one_after_the_other(tmp_path, search, [0.99, 0.2]) == ["completed", "stopped"]
    search = {"scheduler": scheduler, "objectives": [f"maximize {own_metric}"]}
    assert run_one_after_the_other(tmp_path / "other", search, [0.99, 0.2]) == ["completed", "completed"]


def test_a_constraint_is_judged_in_the_middle_too(tmp_path: Path) -> None:
    search = {"scheduler": SCHEDULERS[0], "objectives": ["maximize val/accuracy"], "constraints": ["sparsity >= 90%"]}
    assert run_one_after_the_other(tmp_path, search, [0.95, 0.2]) == ["completed", "stopped"]


@pytest.mark.parametrize("simulated", [True, False])
def test_a_simulated_search_obeys_what_a_plug_in_computes_from_scores_and_refuses_what_it_cannot_have(
    tmp_path: Path, typed: Typed, simulated: bool
) -> None:
    def error(measured: Measured) -> float:
        return 1.0 - measured.scores["validation"]["accuracy"]

    scheduled = SPACE.replace("seed: 5}", "seed: 5, scheduler: {name: asha, grace: 1ep, eta: 2}, objectives: WHAT}")
    by_error = scheduled.replace("WHAT", "[minimize val/error]")
    with registered("val/error", error, Metric(best="minimize", split="validation", simulated=simulated)):
        if not simulated:
            (tmp_path / "space.yaml").write_text(by_error)
            said = typed("launch", str(tmp_path / "space.yaml"), "--simulate")
            assert said.code == 2
            assert "val/error is measured on networks, which a simulated search does not have" in said.err
            assert not (tmp_path / "searches").exists()
            return
        found = Simulated.begin(tmp_path / "one", by_error).run()
    other = Simulated.begin(tmp_path / "other", scheduled.replace("WHAT", "[maximize val/accuracy]")).run()
    statuses = [trial.status for trial in found.numbered()]
    assert "stopped" in statuses
    # Maximizing the one is minimizing the other, up to what the sampler proposes.
    startup = 10 - 3
    assert statuses[:startup] == [trial.status for trial in other.numbered()][:startup]


@pytest.mark.parametrize("simulated", [(), ("--simulate",)], ids=["trained", "simulated"])
@pytest.mark.parametrize("scheduler", ["asha", "median"])
@pytest.mark.parametrize(
    "goals",
    ["objectives: [minimize METRIC]", "objectives: [maximize val/accuracy], constraints: METRIC <= 0.5 * dense"],
    ids=["objective", "constraint"],
)
def test_a_metric_that_is_measured_at_the_end_only_is_refused_in_one_sentence(
    tmp_path: Path, typed: Typed, scheduler: str, goals: str, simulated: tuple[str, ...]
) -> None:
    with registered("cost", lambda measured: 1.0, Metric(best="minimize")):
        for metric in ("latency/batch-1", "cost"):
            search = f"scheduler: {scheduler}, {goals.replace('METRIC', metric)}"
            (tmp_path / "space.yaml").write_text(SPACE.replace("seed: 5}", f"seed: 5, {search}}}"))
            said = typed("launch", str(tmp_path / "space.yaml"), "--json", *simulated)
            assert said.code == 2
            (line,) = said.err.strip().splitlines()
            assert f"{scheduler} compares trials during their training, when {metric} is not" in line
            assert f"use none, or leave {metric} out of the objectives and constraints" in line
            assert not (tmp_path / "searches").exists()
