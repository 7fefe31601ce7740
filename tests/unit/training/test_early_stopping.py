"""Early stopping: when it stops, which state is the result, and that a stop on the way does not show."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.training.early_stopping import BestState, StoppingRule
from prune_search.training.loop import Hook


class Course:
    """A network whose weight is the step, measured by a list of values."""

    def __init__(self, values: Mapping[int, float], **rule: Any) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        self.values = values
        self.measured: list[int] = []
        self.mask = torch.zeros(())
        mask = Hook("mask", state=lambda: {"kept": self.mask}, load=self._load)
        self.best = BestState(self.model, StoppingRule(**{"total": 100, **rule}), self._measure, [mask])
        self.hook = self.best.hook()

    def _load(self, state: Mapping[str, Tensor]) -> None:
        self.mask = state["kept"]

    def _measure(self) -> float:
        step = round(float(self.model.weight.detach()))
        self.measured.append(step)
        return self.values[step]

    def go(self, start: int, stop: int) -> int:
        """Train as the loop does, and say where it ended."""
        finished = self.hook.finished
        assert finished is not None
        for step in range(start, stop):
            self.at(step)
            if finished(step):
                return step
        self.at(stop)
        # A segment asks again where it ends.
        finished(stop)
        return stop

    def at(self, step: int) -> None:
        with torch.no_grad():
            self.model.weight.fill_(float(step))
        self.mask = torch.tensor(float(10 * step))

    def end(self) -> float:
        assert self.hook.at_end is not None
        self.hook.at_end()
        return float(self.model.weight.detach())


FALLS = {2: 5.0, 4: 3.0, 6: 4.0, 8: 3.5, 10: 1.0, 12: 0.5}


def test_it_stops_after_so_many_evaluations_without_a_better_value_and_restores_the_best() -> None:
    course = Course(FALLS, every=2, patience=2)
    assert course.go(0, 100) == 8
    assert course.measured == [2, 4, 6, 8]
    assert course.end() == 4.0
    assert float(course.mask) == 40.0
    assert course.hook.state is not None
    assert course.hook.state() == {}


def test_the_last_state_stays_where_nothing_is_to_be_restored() -> None:
    course = Course(FALLS, every=2, patience=2, restore=False)
    assert course.go(0, 100) == 8
    assert course.end() == 8.0


def test_the_end_is_measured_too() -> None:
    course = Course({**FALLS, 5: 2.0}, every=2, patience=3, total=5)
    assert course.go(0, 5) == 5
    assert course.end() == 5.0
    assert course.measured == [2, 4, 5]
    worse = Course({**FALLS, 5: 9.0}, every=2, patience=3, total=5)
    worse.go(0, 5)
    assert worse.end() == 4.0


def test_larger_is_better_where_the_metric_says_so_and_a_value_that_is_no_number_never_is() -> None:
    course = Course({1: 0.1, 2: math.nan, 3: 0.4, 4: 0.4, 5: 0.2}, every=1, patience=2, best="maximize")
    assert course.go(0, 100) == 5
    assert course.end() == 3.0
    nothing = Course(dict.fromkeys(range(1, 9), math.nan), every=1, patience=3)
    assert nothing.go(0, 100) == 4
    assert nothing.end() == 1.0


def test_nothing_counts_before_the_network_is_what_it_will_be() -> None:
    course = Course({8: 3.0, 10: 4.0, 12: 5.0}, every=2, patience=2, after=6)
    assert course.go(0, 100) == 12
    assert course.measured == [8, 10, 12]
    assert course.end() == 8.0


def test_a_stop_at_any_step_does_not_show() -> None:
    whole = Course(FALLS, every=2, patience=2)
    ended = whole.go(0, 100)
    for stop in range(1, ended):
        one = Course(FALLS, every=2, patience=2)
        one.go(0, stop)
        assert one.hook.state is not None
        stored = {name: value.clone() for name, value in one.hook.state().items()}
        other = Course(FALLS, every=2, patience=2)
        assert other.hook.load is not None
        if stored:
            other.hook.load(stored)
        assert other.go(stop, 100) == ended, stop
        assert sorted({*one.measured, *other.measured}) == whole.measured
        assert len(one.measured) + len(other.measured) == len(whole.measured), stop
        assert other.end() == 4.0


def test_the_network_is_measured_and_kept_as_it_would_end() -> None:
    model = nn.Linear(1, 1, bias=False)
    seen: list[float] = []

    @contextlib.contextmanager
    def ended() -> Iterator[None]:
        with torch.no_grad():
            before = model.weight.clone()
            model.weight.fill_(7.0)
        yield
        with torch.no_grad():
            model.weight.copy_(before)

    def measure() -> float:
        seen.append(float(model.weight.detach()))
        return float(len(seen))

    as_ended: Callable[[], Any] = ended
    hook = BestState(model, StoppingRule(1, 1), measure, as_ended=as_ended).hook()
    assert hook.finished is not None
    assert hook.at_end is not None
    with torch.no_grad():
        model.weight.fill_(1.0)
    assert not hook.finished(1)
    assert float(model.weight.detach()) == 1.0
    assert hook.finished(2)
    hook.at_end()
    assert seen == [7.0, 7.0]
    assert float(model.weight.detach()) == 7.0
