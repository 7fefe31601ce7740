"""The scores of channels that several layers share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prune_search.pruning.mask.group_scores import JOINED, OVER, SCALES, Joined, joined, joining, mean_rows, unit_scores
from prune_search.pruning.mask.reductions import REDUCTIONS
from prune_search.pruning.mask.units import READER, SCALE, WEIGHT, Part, UnitSet
from prune_search.recipe.axes import CRITERIA, GRANULARITIES
from prune_search.recipe.recipe import Named


def coupled_scores(one: UnitSet, found: dict[str, Tensor], how: Joined, over: str, scale: str) -> Tensor:
    ((_, rows),) = mean_rows([one], [found], how)
    return joined(one, rows, over, how.scale or scale)


def rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1)


def columns(tensor: Tensor) -> Tensor:
    return tensor.T


# Three channels: a layer makes them, another reads the first and the last, and a normalization scales them.
SET = UnitSet(
    "one",
    3,
    (3, 2),
    (
        Part("one", WEIGHT, rows),
        Part("two", READER, columns, torch.tensor([0, 2])),
        Part("norm", SCALE, rows),
    ),
)
FOUND = {
    "one": torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]]),
    "two": torch.tensor([[1.0, 2.0], [1.0, 2.0]]),
    "norm": torch.tensor([0.5, 0.25, 2.0]),
}


@pytest.mark.parametrize(
    ("over", "wanted"),
    [
        ("sum", [7.0 + 2.0 + 0.5, 1.0 + 0.25, 2.0 + 4.0 + 2.0]),
        ("mean", [9.5 / 3, 1.25 / 2, 8.0 / 3]),
        ("max", [7.0, 1.0, 4.0]),
        ("first", [7.0, 1.0, 2.0]),
    ],
)
def test_layers_are_joined_and_one_that_lacks_a_channel_has_no_say(over: str, wanted: list[float]) -> None:
    how = Joined(REDUCTIONS["sum-abs"])
    assert coupled_scores(SET, FOUND, how, over, "none").tolist() == pytest.approx(wanted)
    assert set(OVER) == {"sum", "mean", "max", "first"}


def test_sets_are_scaled_so_that_they_can_compete_and_one_of_zeros_stays() -> None:
    how = Joined(REDUCTIONS["sum-abs"])
    assert float(coupled_scores(SET, FOUND, how, "sum", "mean").mean()) == pytest.approx(1.0)
    assert float(coupled_scores(SET, FOUND, how, "sum", "sum").sum()) == pytest.approx(1.0)
    assert float(coupled_scores(SET, FOUND, how, "sum", "max").max()) == 1.0
    assert SCALES["mean"](torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_of_norms_the_squares_are_joined_and_lamp_compares_channels() -> None:
    squares = coupled_scores(SET, FOUND, JOINED["norm"], "sum", "none")
    assert squares.tolist() == pytest.approx([25 + 2 + 0.25, 1 + 0.0625, 4 + 8 + 4])
    found = coupled_scores(SET, FOUND, JOINED["lamp"], "sum", "mean")
    assert float(found.max()) == 1.0


def test_a_criterion_of_scales_alone_looks_at_nothing_else() -> None:
    how = joining("only", "norm", JOINED)
    assert coupled_scores(SET, FOUND, how, "sum", "none").tolist() == [0.5, 0.25, 2.0]
    # Without a normalization on the way the channels rank below all others.
    assert coupled_scores(SET, {"one": FOUND["one"]}, how, "sum", "none").tolist() == [0.0, 0.0, 0.0]


def test_units_of_one_layer_are_reduced_by_the_criterion_alone() -> None:
    filters, weights = (Named.of(GRANULARITIES, name) for name in ("filter", "weight"))
    norm = Named.of(CRITERIA, "l2")
    one = UnitSet("one", 3, (3, 2), (Part("one", WEIGHT, rows),))
    assert unit_scores([one], [FOUND], norm, filters)["one"].tolist() == [5.0, 1.0, 2.0]
    singles = UnitSet("one", 6, (3, 2), (Part("one", WEIGHT, lambda tensor: tensor.reshape(-1, 1)),))
    assert unit_scores([singles], [FOUND], Named.of(CRITERIA, "magnitude"), weights)["one"].tolist() == [
        3,
        4,
        1,
        0,
        0,
        2,
    ]
