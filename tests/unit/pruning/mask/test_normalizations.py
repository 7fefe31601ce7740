"""Normalizations: each scales as its formula says, and none changes the order within a layer."""

from __future__ import annotations

import math

import pytest
import torch

from prune_search.recipe.axes import NORMALIZATIONS

SCORES = torch.tensor([3.0, 0.0, 1.0, 4.0])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("none", [3.0, 0.0, 1.0, 4.0]),
        ("sum", [3 / 8, 0.0, 1 / 8, 4 / 8]),
        ("mean", [1.5, 0.0, 0.5, 2.0]),
        ("max", [0.75, 0.0, 0.25, 1.0]),
        ("l2", [score / math.sqrt(26) for score in (3.0, 0.0, 1.0, 4.0)]),
        ("standard", [score / math.sqrt(2.5) for score in (1.0, -2.0, -1.0, 2.0)]),
        ("rank", [2 / 3, 0.0, 1 / 3, 1.0]),
    ],
)
def test_each_is_its_formula(name: str, wanted: list[float]) -> None:
    assert NORMALIZATIONS[name].make(SCORES).tolist() == pytest.approx(wanted)


def test_a_layer_of_equal_or_of_no_scores_stays_finite() -> None:
    for entry in NORMALIZATIONS.values():
        for scores in (torch.zeros(3), torch.full((1,), 7.0)):
            assert bool(torch.isfinite(entry.make(scores)).all()), entry.name


def test_of_equal_scores_the_first_ranks_higher_as_it_is_kept_first() -> None:
    assert NORMALIZATIONS["rank"].make(torch.tensor([1.0, 1.0, 0.0])).tolist() == [1.0, 0.5, 0.0]
