"""A simulated trial reports what a trained one would, and trains nothing twice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.simulation.run import SECONDS_PER_STEP, DiedError, Trial
from prune_search.simulation.surface import Simulation
from prune_search.simulation.trained import Trained
from prune_search.trial.callbacks import Observation, Silent
from prune_search.trial.errors import TrialError
from prune_search.trial.result import RoundResult


class Watching(Silent):
    """Measures each retraining half-way, and keeps what it is told."""

    def __init__(self) -> None:
        self.total = 0
        self.seen: list[Observation] = []
        self.rounds: list[RoundResult] = []

    def started(self, key: str, total: int) -> None:
        self.total = total

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        return [total // 2, total]

    def observed(self, seen: Observation) -> None:
        self.seen.append(seen)

    def round_done(self, result: RoundResult) -> None:
        self.rounds.append(result)


def recipe(preset: str = "lottery-ticket", **sets: Any) -> Recipe:
    values = {"train.steps": "10ep", **{key.replace("__", "."): value for key, value in sets.items()}}
    return read_space({"preset": preset}, "a test", list(values.items())).only_recipe()


def trial(given: Recipe, shared: Trained | None = None, attempt: int = 1, **options: Any) -> Trial:
    simulation = Simulation.of({"name": "closed-form", **options})
    return Trial(given, simulation, Trained() if shared is None else shared, Watching(), attempt=attempt)


def finish(one: Trial, now: float = 0.0) -> tuple[dict[str, Any], float]:
    """The result, and when it is there."""
    running = one.run(now)
    try:
        now = next(running)
        while True:
            now = running.send(now)
    except StopIteration as ended:
        result: dict[str, Any] = ended.value
        return result, now


def test_all_steps_are_trained_and_each_round_is_told() -> None:
    one = trial(recipe(rounds=3))
    result, now = finish(one)
    sink = one.sink
    assert isinstance(sink, Watching)
    assert result["steps_trained"] == sink.total == now
    assert result["steps_reused"] == 0
    assert result["seconds"] == pytest.approx(now * SECONDS_PER_STEP, abs=1e-3)
    assert [item["round"] for item in result["rounds"]] == [item.number for item in sink.rounds] == [1, 2, 3]
    assert [seen.round_number for seen in sink.seen] == [1, 2, 3], "the end of a round is measured once"
    assert result["metrics"] == result["rounds"][-1]["metrics"]
    assert result["metrics"]["sparsity"] == pytest.approx(result["sparsity"]["reached"])


def test_what_another_trial_has_trained_is_not_trained_again() -> None:
    shared = Trained()
    first, _ = finish(trial(recipe(rounds=2, mask__sparsity={"final": 0.75}), shared))
    again, now = finish(trial(recipe(rounds=2, mask__sparsity={"final": 0.75}), shared), now=10_000_000.0)
    assert again["steps_trained"] == 0
    assert again["steps_reused"] == first["steps_trained"]
    assert now == 10_000_000.0, "nothing was waited for"
    assert again["metrics"] == first["metrics"]


def test_a_recipe_comes_to_the_same_wherever_and_whenever_it_runs() -> None:
    results = [finish(trial(recipe(), noise=2.0), now)[0] for now in (0.0, 99.0)]
    assert results[0] == results[1]
    assert finish(trial(recipe(task__seed=5), noise=2.0))[0]["metrics"] != results[0]["metrics"]


def test_a_trial_that_fails_fails_at_each_attempt_and_one_that_dies_may_live_at_the_next() -> None:
    for attempt in (1, 2):
        with pytest.raises(TrialError, match=r"the loss is nan at step \d+ \(simulated\)"):
            finish(trial(recipe(), attempt=attempt, failing=1.0))
    fates = []
    for attempt in range(1, 21):
        try:
            finish(trial(recipe("snip"), attempt=attempt, dying=0.5))
            fates.append(True)
        except DiedError:
            fates.append(False)
    assert 3 < sum(fates) < 17
