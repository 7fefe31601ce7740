"""Sinks: one that tells nobody, and one that ends a trial when it is asked to."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch

from prune_search.recipe.step import Step
from prune_search.training.state_store import PreemptedError
from prune_search.trial.callbacks import Evaluating, Guarded, Observation, Silent, Sink


class Counting(Silent):
    """Keeps the steps and places that it is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.places: list[tuple[str, int]] = []

    def step(self, step: int, total: int, loss: torch.Tensor) -> None:
        self.steps.append(step)

    def observe_at(self, total: int, epoch: int, settled: int) -> tuple[int, ...]:
        return (total, epoch, settled)

    def reached(self, place: str, step: int) -> None:
        self.places.append((place, step))


def test_who_tells_nobody_wants_nothing_measured() -> None:
    sink: Sink = Silent()
    assert sink.observe_at(100, 10, 0) == ()


def test_a_guard_passes_everything_on() -> None:
    inner = Counting()
    sink: Sink = Guarded(inner, lambda: False)
    sink.step(1, 9, torch.tensor(0.5))
    sink.reached("train", 4)
    assert sink.observe_at(100, 10, 3) == (100, 10, 3)
    assert (inner.steps, inner.places) == ([1], [("train", 4)])


def test_the_step_after_which_a_trial_is_stopped_is_told_first() -> None:
    inner = Counting()
    sink = Guarded(inner, lambda: len(inner.steps) == 2)
    sink.step(1, 9, torch.tensor(0.5))
    with pytest.raises(PreemptedError, match="asked to stop"):
        sink.step(2, 9, torch.tensor(0.5))
    assert inner.steps == [1, 2]


def test_measurements_are_told_to_who_asked_for_them() -> None:
    class Halfway(Silent):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
            return (total // 2,)

        def observed(self, seen: Observation) -> None:
            self.seen.append(seen.step)

    inner, told = Halfway(), list[int]()
    sink = Evaluating(inner, Step.parse("1ep"), lambda seen: told.append(seen.step))
    wanted = sink.observe_at(20, 4, 0)
    assert sorted(wanted) == [4, 8, 10, 12, 16]
    for step in sorted(wanted):
        sink.observed(Observation(1, step, step, step, {}, 0.5))
    assert (told, inner.seen) == ([4, 8, 12, 16], [10])
