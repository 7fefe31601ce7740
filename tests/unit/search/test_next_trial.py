"""What a search does next, over the real ledger, without Ray and training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from real_search import outcomes, statuses
from simulated_search import SPACE, Simulation, figures_of

from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.next_trial import Next, NextTrial, dense_recipe, long_recipe, run_name

SMALL = SPACE.replace("trials: 12", "trials: 5")
MET = SMALL.replace("seed: 5", "seed: 5, constraints: [val/accuracy >= dense - BOUND]")


def test_every_trial_and_control_is_started_once(tmp_path: Path) -> None:
    simulation = Simulation.begin(tmp_path)
    records = simulation.run()
    assert sorted(simulation.started) == sorted(records.trials)
    assert len(records.numbered()) == 12
    assert simulation.started[0] == "control-dense"
    assert set(simulation.started[-2:]) == {"control-dense-long", "control-shuffle"}
    assert all(trial.ended is not None for trial in records.trials.values())


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a_reproducible_search_does_not_depend_on_when_its_trials_end(tmp_path: Path, seed: int) -> None:
    one = Simulation.begin(tmp_path / "one", seed=0).run()
    other = Simulation.begin(tmp_path / "other", seed=seed).run()
    assert outcomes(one) == outcomes(other)


def test_a_search_that_was_asked_to_end_starts_nothing_and_goes_on_later(tmp_path: Path) -> None:
    whole = Simulation.begin(tmp_path / "whole").run()
    simulation = Simulation.begin(tmp_path / "asked")

    def end(trial: TrialRecords) -> Mapping[str, Any] | None:
        simulation.asked |= trial.id == "000004"
        return figures_of(trial)

    simulation.figures = end
    assert len(simulation.run().numbered()) < 12
    simulation.asked, simulation.figures = False, figures_of
    assert outcomes(simulation.run()) == outcomes(whole)


def test_the_search_ends_with_the_first_trial_that_meets_the_constraints(tmp_path: Path) -> None:
    text = MET.replace("BOUND", "100%").replace("concurrency: 3", "concurrency: 1, stop_when_met: true")
    assert len(Simulation.begin(tmp_path, text).run().numbered()) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_when_a_reproducible_search_ends_is_reproducible_too(tmp_path: Path, seed: int) -> None:
    text = MET.replace("BOUND", "100%").replace("concurrency: 3", "concurrency: 3, stop_when_met: true")
    # The fourth proposal is the first that may know of a trial.
    assert len(Simulation.begin(tmp_path, text, seed).run().numbered()) == 3


def test_without_controls_the_dense_network_is_there_where_a_constraint_names_it(tmp_path: Path) -> None:
    text = MET.replace("BOUND", "1%").replace("seed: 5", "seed: 5, controls: false")
    records = Simulation.begin(tmp_path, text).run()
    assert [trial.id for trial in records.controls()] == ["control-dense"]
    assert len(records.numbered()) == 5
    assert not Simulation.begin(tmp_path / "none", SMALL.replace("seed: 5", "controls: false")).run().controls()


def test_where_the_dense_network_fails_the_search_goes_on(tmp_path: Path) -> None:
    def all_but_dense(trial: TrialRecords) -> Mapping[str, Any] | None:
        return None if trial.id == "control-dense" else figures_of(trial)

    records = Simulation.begin(tmp_path, MET.replace("BOUND", "1%"), figures=all_but_dense).run()
    assert records.trials["control-dense"].status == "failed"
    assert len(records.numbered()) == 5
    assert records.dense is None


def test_where_every_trial_fails_nothing_is_compared_with_the_best(tmp_path: Path) -> None:
    def only_dense(trial: TrialRecords) -> Mapping[str, Any] | None:
        return figures_of(trial) if trial.control else None

    records = Simulation.begin(tmp_path, SMALL, figures=only_dense).run()
    assert statuses(records) == ["failed"] * 5
    assert [trial.id for trial in records.controls()] == ["control-dense"]


REPEATING = """\
preset: snip
mask: {sparsity: {hole: choice, of: [0.5, 0.6]}}
search: {sampler: random, trials: 8, concurrency: 2, controls: false, REST}
"""


@pytest.mark.parametrize("reproducible", ["true", "false"])
def test_a_repeated_recipe_takes_the_result_of_the_first(tmp_path: Path, reproducible: str) -> None:
    simulation = Simulation.begin(tmp_path, REPEATING.replace("REST", f"reproducible: {reproducible}"))
    records = simulation.run()
    assert len(simulation.started) == 2
    assert statuses(records).count("duplicate") == 6
    for trial in records.numbered():
        if trial.duplicate_of is not None:
            twin = records.trials[trial.duplicate_of]
            assert twin.duplicate_of is None
            assert trial.result == twin.result
            assert trial.ended is not None
            assert (trial.ended.data["steps_trained"], trial.ended.data["steps_saved"]) == (0, 27)


def test_a_repeated_recipe_fails_with_the_first(tmp_path: Path) -> None:
    simulation = Simulation.begin(tmp_path, REPEATING.replace("REST", "seed: 1"), figures=lambda trial: None)
    records = simulation.run()
    assert len(simulation.started) == 2
    assert {trial.ended.data["status"] for trial in records.numbered() if trial.ended is not None} == {"failed"}


def test_a_grid_ends_where_it_has_no_further_point(tmp_path: Path) -> None:
    text = REPEATING.replace("sampler: random", "sampler: grid").replace(", REST", "")
    assert len(Simulation.begin(tmp_path, text).run().numbered()) == 2


def test_nothing_is_proposed_after_the_time_budget(tmp_path: Path) -> None:
    simulation = Simulation.begin(tmp_path, SMALL.replace("seed: 5", "seed: 5, time_budget: 0.000001"))
    next_trial = NextTrial.open(simulation.folder, simulation.space, known_epoch, lambda: False)
    first = next_trial.next()
    assert isinstance(first, TrialRecords)
    assert first.id == "control-dense"
    assert next_trial.next() is Next.WAIT


def test_a_trial_whose_process_is_lost_for_good_has_failed(tmp_path: Path) -> None:
    simulation = Simulation.begin(tmp_path, SMALL)
    next_trial = NextTrial.open(simulation.folder, simulation.space, known_epoch, lambda: False)
    next_trial.next()
    trial = next_trial.next()
    assert isinstance(trial, TrialRecords)
    ended = next_trial.done(trial.id, "the process died\nfor the fourth time")
    assert ended.status == "failed"
    assert ended.ended is not None
    assert ended.ended.data["error"] == {"kind": "lost", "message": "the process died for the fourth time"}


def test_a_resumed_search_proposes_what_the_unbroken_one_does(tmp_path: Path) -> None:
    """The space comes from search.json there: its holes must have the same names."""
    from prune_search.api.definition import space_of

    simulation = Simulation.begin(tmp_path)
    space = space_of(simulation_definition(simulation))
    assert space.canonical() == simulation.space.canonical()
    whole = Simulation.begin(tmp_path / "whole").run()
    simulation.space = space
    assert outcomes(simulation.run()) == outcomes(whole)


def simulation_definition(simulation: Simulation) -> Mapping[str, Any]:
    from prune_search.ledger.records import read_search

    records: SearchRecords = read_search(simulation.folder)
    return records.definition


def test_the_dense_network_has_the_first_or_middle_value_of_every_hole() -> None:
    space = read_space(
        {
            "preset": "snip",
            "task": {"model": {"hole": "choice", "of": ["lenet-300-100", "mlp"]}},
            "train": {
                "steps": "5ep",
                "optimizer": {"name": "sgd", "lr": {"hole": "loguniform", "low": 0.01, "high": 1.0}},
            },
            "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.9}},
        },
        "a test",
    )
    recipe = dense_recipe(space)
    assert recipe.blocks["task"]["model"] == "lenet-300-100"
    assert str(recipe.train.steps) == "5ep"
    assert recipe.optimizer.options["lr"] == pytest.approx(0.1)
    assert recipe.mask.sparsity.final == 0.0


def test_a_given_network_is_compared_with_as_it_came_and_as_it_is_when_it_is_trained_on() -> None:
    raw = {
        "train": {"from": "model"},
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": {"hole": "uniform", "low": 0.5, "high": 0.9}},
        "weights": {"at": "end"},
        "retrain": {"steps": "3ep", "clock": {"hold": 0.01}},
    }
    space = read_space(raw, "a test")
    dense = dense_recipe(space)
    assert dense.train.from_model
    assert dense.retrain is None
    winner = Recipe.read({**raw, "mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.7}})
    long = long_recipe(winner, dense.canonical, 42)
    assert long is not None
    assert long.mask.sparsity.final == 0.0
    assert long.retrain is not None
    assert long.retrain.written["steps"] == "42it"
    assert long.train.from_model
    on_clock = Recipe.read({**winner.blocks, "retrain": {"until": "end", "clock": "2ep"}})
    again = long_recipe(on_clock, dense.canonical, 42)
    assert again is not None
    assert again.retrain is not None
    assert again.retrain.written["stretch"] is True
    # What the winner did not train is not trained.
    assert long_recipe(Recipe.read({**winner.blocks, "retrain": "none"}), dense.canonical, 0) is None


@pytest.mark.parametrize(
    ("blocks", "name"),
    [
        ({"preset": "lottery-ticket", "rounds": 5}, "007-lottery-ticket-s0.67"),
        ({"preset": "fuse-init"}, "007-fuse-init-3-layers"),
        ({"preset": "fuse-init", "rounds": 1, "retrain": {"clock": "80%"}}, "007-fuse-init-1-layer"),
        ({"preset": "constrained-rl"}, "007-constrained-rl"),
        ({"preset": "dense"}, "007-dense-s0.00"),
    ],
)
def test_a_trial_is_called_by_its_paradigm_and_by_what_it_removes(blocks: dict[str, Any], name: str) -> None:
    raw = {"task": {"data": "digits", "model": {"name": "mlp", "hidden": [16, 16, 16, 16]}}, **blocks}
    assert run_name(7, read_space(raw, "a test").only_recipe()) == name
