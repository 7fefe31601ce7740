"""Expected gains: one objective, a front over known sparsities, several objectives, constraints, and prices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import pytest

from prune_search.ledger.ranking import Goals
from prune_search.search.guided.gains import Gains, Modelled, improvement, marginal_steps
from prune_search.search.guided.surrogate import Belief
from prune_search.search.guided.targets import Target


def search(objectives: Sequence[str], constraints: Sequence[str] = ()) -> Goals:
    return Goals.of({"objectives": list(objectives), "constraints": list(constraints)})


def believed(means: Sequence[float], deviation: float = 0.1) -> Modelled:
    """A metric that is believed by one member, on its own scale."""
    mean = numpy.array([means], dtype=float)
    belief = Belief(numpy.ones(1), mean, numpy.full(mean.shape, deviation), 0.0)
    return Modelled(Target(float, float, False), belief)


def known(values: Sequence[float]) -> Modelled:
    return Modelled(Target(float, float, False), None, numpy.array(values, dtype=float))


def gains(
    goals: Goals, objectives: Sequence[Modelled], sparsity: Sequence[float], constraints: Sequence[Modelled] = ()
) -> Gains:
    """Of nodes of which the last one has ended."""
    last = numpy.array([len(sparsity) - 1])
    return Gains(goals, objectives, constraints, None, last, numpy.array([True]), numpy.array(sparsity, dtype=float))


def test_improvement_is_the_mean_of_what_lies_above_the_best() -> None:
    drawn = numpy.random.default_rng(0).normal(0.3, 0.5, 400_000)
    expected = numpy.maximum(drawn - 0.6, 0).mean()
    found = improvement(numpy.array([0.3]), numpy.array([0.5]), numpy.array([0.6]))
    assert found[0] == pytest.approx(expected, rel=0.01)


def test_one_objective_prefers_what_is_better_and_what_is_less_certain() -> None:
    rows = numpy.arange(3)
    one = gains(search(["maximize val/accuracy"]), [believed([1.0, 1.2, 0.5, 1.0])], [0.9] * 4)
    found = one.of(rows, 1)
    assert found[1] > found[0] > found[2]
    unsure = Belief(numpy.ones(1), numpy.array([[1.0, 1.0, 1.0, 1.0]]), numpy.array([[0.1, 0.3, 0.2, 0.1]]), 0.0)
    found = gains(search(["maximize val/accuracy"]), [Modelled(Target(float, float, False), unsure)], [0.9] * 4).of(
        rows, 1
    )
    assert found[1] > found[2] > found[0]


def test_over_sparsity_a_network_gains_where_nothing_as_sparse_is_as_good() -> None:
    goals = search(["maximize val/accuracy", "maximize sparsity"])
    sparsity = [0.5, 0.9, 0.9, 0.7]
    # The one that has ended: 1.0 at 0.7.
    found = gains(goals, [believed([1.0, 0.9, 0.5, 1.0]), known(sparsity)], sparsity).of(numpy.arange(3), 1)
    assert found[1] > found[2]
    assert found[1] > found[0]


def test_several_objectives_gain_by_what_no_ended_trial_has() -> None:
    goals = search(["maximize val/accuracy", "minimize val/loss"])
    dominated, better = 0, 1
    objectives = [believed([0.5, 1.5, 1.0], 0.05), believed([0.5, 1.5, 1.0], 0.05)]
    for number in range(5):
        found = gains(goals, objectives, [0.9] * 3).of(numpy.arange(2), number)
        assert found[better] > 100 * found[dominated]


def test_what_hardly_meets_a_constraint_gains_hardly_anything() -> None:
    goals = search(["maximize sparsity"], ["val/accuracy >= 0.9"])
    sparsity = [0.95, 0.95, 0.8]
    constraint = believed([0.5, 1.0, 1.0], 0.05)
    found = gains(goals, [known(sparsity)], sparsity, [constraint]).of(numpy.arange(2), 1)
    assert found[1] == pytest.approx(0.15, abs=0.01)
    assert found[0] < 1e-5


def test_while_nothing_meets_the_constraints_the_chance_of_meeting_them_counts() -> None:
    goals = search(["maximize sparsity"], ["val/accuracy >= 0.9"])
    one = gains(goals, [known([0.95, 0.5, 0.8])], [0.95, 0.5, 0.8], [believed([0.8, 0.95, 0.5], 0.1)])
    unmet = Gains(one.goals, one.objectives, one.constraints, None, one.ended, numpy.array([False]), one.sparsity)
    found = unmet.of(numpy.arange(2), 1)
    assert found[1] > found[0]


def test_a_price_leaves_out_what_is_stored_and_halves_what_is_being_trained() -> None:
    branch = [("train", 100), ("first", 40), ("second", 40)]
    assert marginal_steps(branch, {}, {}) == 180
    assert marginal_steps(branch, {"train": 100}, {}) == 80
    assert marginal_steps(branch, {"train": 100}, {"first": 40}) == 60
    assert marginal_steps(branch, {"train": 60}, {"train": 100}) == 20 + 80
    assert marginal_steps(branch, {"train": 500, "first": 40, "second": 40}, {}) == 0
