"""How the scores of the weights of a unit become the score of the unit."""

from __future__ import annotations

import pytest
import torch

from prune_search.pruning.mask.reductions import PLAIN, REDUCTIONS, distances, lamp, over_not_smaller, reduction
from prune_search.pruning.mask.reductions import reduction_name as name_of
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.recipe import Named

SCORES = torch.tensor([[1.0, -3.0], [0.0, 2.0], [-2.0, -2.0]])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sum", [-2.0, 2.0, -4.0]),
        ("mean", [-1.0, 1.0, -2.0]),
        ("readers", [-1.0, 1.0, -2.0]),
        ("sum-abs", [4.0, 2.0, 4.0]),
        ("abs-sum", [2.0, 2.0, 4.0]),
        ("norm", [10.0**0.5, 2.0, 8.0**0.5]),
    ],
)
def test_each_is_its_formula(name: str, wanted: list[float]) -> None:
    assert REDUCTIONS[name](SCORES).tolist() == pytest.approx(wanted)


def test_a_unit_of_one_weight_keeps_its_score_where_that_is_promised() -> None:
    single = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(REDUCTIONS[name](single), single[:, 0]) for name in PLAIN)


def test_lamp_compares_a_size_with_all_that_are_not_smaller() -> None:
    assert lamp(torch.tensor([[1.0], [-2.0], [3.0]])).tolist() == pytest.approx([1 / 14, 4 / 13, 1.0])
    assert over_not_smaller(torch.tensor([1.0, 4.0, 4.0])).tolist() == pytest.approx([1 / 9, 0.5, 0.5])
    assert over_not_smaller(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_distances_are_those_between_all_rows_however_many_there_are() -> None:
    rows = torch.randn(1500, 3, generator=torch.Generator().manual_seed(0))
    found = distances(rows)
    for row in (0, 1023, 1024, 1499):
        wanted = (rows.double() - rows[row].double()).square().sum(1).sqrt().sum()
        assert float(found[row]) == pytest.approx(float(wanted))


def test_a_criterion_says_which_is_its_own_and_its_options_may_decide_it() -> None:
    lengths = Named.of(CRITERIA, {"name": "magnitude"})
    assert reduction(lengths) is REDUCTIONS[name_of(CRITERIA["magnitude"].facts, lengths.options)]
    taylor = CRITERIA["taylor"].facts
    assert callable(taylor.reduce)
    options = {"order": "first", "each": "batch"}
    assert [name_of(taylor, {**options, "group": word}) for word in ("abs-sum", "sum-abs")] == ["abs-sum", "sum-abs"]
