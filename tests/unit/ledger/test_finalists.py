"""The finalists of a search: which are repeated, on which seeds, when, and which one wins."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulated_search import SPACE, Simulation, figures_of

from prune_search.ledger.finalists import (
    FIRST_SEED,
    Finalist,
    chosen_finalists,
    finalists_data,
    finalists_of,
    new_seeds,
    winner_of,
)
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import Record, SearchRecords, TrialRecords
from prune_search.search.guided.recommend import as_expected

REPEATED = SPACE.replace("seed: 5}", "seed: 5, finalists: {count: 2, seeds: 3}}")


def accuracy(trial: TrialRecords) -> float:
    return float(trial.metrics["val/accuracy"])


def ended(search: SearchRecords) -> list[TrialRecords]:
    return [trial for trial in search.numbered() if trial.status == "completed"]


def repetitions(search: SearchRecords) -> list[TrialRecords]:
    return [trial for trial in search.trials.values() if trial.repetition]


def test_the_best_recipes_are_repeated_on_the_same_new_seeds_before_the_last_controls(tmp_path: Path) -> None:
    simulation = Simulation.begin(tmp_path, REPEATED)
    search = simulation.run()
    best = sorted(ended(search), key=accuracy, reverse=True)[:2]
    repeats = repetitions(search)
    assert sorted(trial.id for trial in repeats) == sorted(
        f"finalist-{trial.id}-{seed}" for trial in best for seed in range(FIRST_SEED, FIRST_SEED + 3)
    )
    for trial in repeats:
        first = search.trials[trial.id.split("-")[1]]
        seed = int(trial.id.rpartition("-")[2])
        assert trial.recipe == {**first.recipe, "task": {**first.recipe["task"], "seed": seed}}
    order = [identity.partition("-")[0] for identity in simulation.started]
    assert order[-8:] == ["finalist"] * 6 + ["control"] * 2
    assert len(search.numbered()) == 12
    assert [trial.id for trial in search.controls()] == ["control-dense", "control-dense-long", "control-shuffle"]


def test_the_best_mean_over_the_new_seeds_wins_and_the_last_controls_follow_it(tmp_path: Path) -> None:
    lucky: dict[str, str] = {}

    def figures(trial: TrialRecords) -> Mapping[str, Any] | None:
        if not trial.repetition:
            return figures_of(trial)
        found = dict(figures_of(trial) or {})
        # The one that was best as a trial is the worse on every new seed.
        return {**found, "val/accuracy": 0.2 if trial.id.split("-")[1] == lucky["id"] else 0.6}

    plain = Simulation.begin(tmp_path / "plain").run()
    first, second = sorted(ended(plain), key=accuracy, reverse=True)[:2]
    lucky["id"] = first.id
    simulation = Simulation.begin(tmp_path / "repeated", REPEATED)
    simulation.figures = figures
    search = simulation.run()
    end = winner_of(search)
    assert winner_of(plain).trial is not None
    assert (end.trial.id if end.trial else "", end.met) == (second.id, True)
    assert [one.trial.id for one in end.finalists] == [second.id, first.id]
    told = finalists_data(search, end.finalists)
    assert [one["like_best"] for one in told] == [True, False]
    assert told[1]["metrics"]["val/accuracy"] == {
        "measured": accuracy(first),
        "mean": pytest.approx(0.2),
        "deviation": pytest.approx(0.0),
        "figures": [0.2] * 3,
    }
    shuffled = search.trials["control-shuffle"].recipe
    assert {**shuffled["mask"], "control": None} == {**second.recipe["mask"], "control": None}


def test_while_a_repetition_has_not_ended_the_best_trial_is_the_best(tmp_path: Path) -> None:
    search = Simulation.begin(tmp_path, REPEATED).run()
    assert winner_of(search).finalists
    last = repetitions(search)[-1]
    search.put(dataclasses.replace(last, ended=None))
    assert finalists_of(search) == []
    best = max(ended(search), key=accuracy)
    assert (winner_of(search).trial, winner_of(search).finalists) == (best, ())


def test_where_every_repetition_fails_the_best_trial_is_the_best(tmp_path: Path) -> None:
    simulation = Simulation.begin(tmp_path, REPEATED)
    simulation.figures = lambda trial: None if trial.repetition else figures_of(trial)
    search = simulation.run()
    assert [one.failed for one in finalists_of(search)] == [3, 3]
    assert winner_of(search).trial == max(ended(search), key=accuracy)


def test_a_search_that_is_asked_to_end_among_its_repetitions_goes_on_with_the_rest(tmp_path: Path) -> None:
    whole = Simulation.begin(tmp_path / "whole", REPEATED).run()
    simulation = Simulation.begin(tmp_path / "asked", REPEATED)

    def end(trial: TrialRecords) -> Mapping[str, Any] | None:
        simulation.asked |= trial.repetition
        return figures_of(trial)

    simulation.figures = end
    assert 0 < len(repetitions(simulation.run())) < 6
    simulation.asked, simulation.figures = False, figures_of
    search = simulation.run()
    assert {t.id: t.metrics for t in search.trials.values()} == {t.id: t.metrics for t in whole.trials.values()}
    assert len(simulation.started) == len(set(simulation.started)) == len(whole.trials)


def test_of_recipes_that_differ_in_the_seed_only_one_is_repeated_on_seeds_that_no_trial_has(tmp_path: Path) -> None:
    text = REPEATED.replace("seed: 0}", "seed: {hole: choice, of: [1001, 3]}}").replace(
        "sparsity: {hole: uniform, low: 0.5, high: 0.95}", "sparsity: 0.9"
    )
    search = Simulation.begin(tmp_path, text.replace("rounds: {hole: int, low: 2, high: 4}", "rounds: 2")).run()
    repeats = repetitions(search)
    assert {trial.recipe["task"]["seed"] for trial in repeats} == {1002, 1003, 1004}
    recipes = {str({**trial.recipe, "task": None}) for trial in repeats}
    assert len(recipes) == 2


def test_new_seeds_are_those_of_no_trial() -> None:
    def trial(seed: int) -> TrialRecords:
        return TrialRecords("000001", Record("000001", "proposed", 1, 0, 0.0, {"recipe": {"task": {"seed": seed}}}))

    assert new_seeds([trial(0), trial(1002)], 3) == [1001, 1003, 1004]


@pytest.mark.parametrize("distance", [0.0, 3.0])
def test_two_finalists_are_alike_where_seeds_explain_their_distance(distance: float) -> None:
    def finalist(mean: float, draw: random.Random) -> Finalist:
        def repeat() -> TrialRecords:
            result = {"metrics": {"m": draw.gauss(mean, 1.0)}}
            return TrialRecords("x", ended=Record("x", "ended", 1, 0, 0.0, {"status": "completed", "result": result}))

        return Finalist(TrialRecords("x"), tuple(repeat() for _ in range(5)))

    draws = [random.Random(seed) for seed in range(200)]
    alike = sum(finalist(0.0, draw).like(finalist(distance, draw), "m") for draw in draws) / len(draws)
    assert alike > 0.85 if distance == 0.0 else alike < 0.05


@pytest.mark.slow
def test_after_a_guided_search_those_that_are_expected_to_be_best_are_repeated(tmp_path: Path) -> None:
    text = REPEATED.replace("sampler: tpe", "sampler: guided").replace("trials: 12", "trials: 6")
    search = Simulation.begin(tmp_path, text).run()
    goals = Goals.of(search.definition["space"]["search"])
    expected = chosen_finalists(as_expected(search.numbered(), goals), goals, search.dense, 2)
    assert {trial.id.split("-")[1] for trial in repetitions(search)} == {trial.id for trial in expected}


def test_without_finalists_a_search_is_what_it_was(tmp_path: Path) -> None:
    search = Simulation.begin(tmp_path).run()
    assert repetitions(search) == []
    goals = Goals.of(search.definition["space"]["search"])
    assert winner_of(search).trial == goals.best(search.numbered(), search.dense)[0]
