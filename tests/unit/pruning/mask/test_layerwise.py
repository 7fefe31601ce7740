"""Statistics of what comes into layers, and layers as matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.layerwise import InputStatistics, Keeping, as_matrix, from_matrix, shown
from prune_search.pruning.mask.mask_set import ScoreError


def test_layers_on_one_tensor_share_a_sum_and_others_do_not() -> None:
    first, second, third = (nn.Linear(3, 2) for _ in range(3))
    layers = {"first": first, "second": second, "third": third}
    x, y = torch.randn(5, 4, 3), torch.randn(2, 4, 3)
    for kind in ("squares", "products"):
        statistics = InputStatistics(kind, layers)
        with shown(layers.values(), statistics.add):
            for value in (x, y):
                first(value), second(value), third(value + 1)
        found = {tuple(names): total for total, names in statistics.taken()}
        rows = torch.cat([x.reshape(-1, 3), y.reshape(-1, 3)]).double()
        wanted = {("first", "second"): rows, ("third",): rows + 1}
        assert found.keys() == wanted.keys()
        for names, seen in wanted.items():
            total = seen.square().sum(0) if kind == "squares" else seen.T @ seen
            assert torch.allclose(found[names].double(), total, rtol=1e-5)


def test_a_layer_that_no_batch_reaches_is_named() -> None:
    statistics = InputStatistics("squares", {"idle": nn.Linear(3, 2)})
    with pytest.raises(ScoreError, match="no batch reaches idle by a call of the layer"):
        list(statistics.taken())


def test_a_convolution_is_a_matrix_of_what_its_outputs_see() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False), torch.randn(2, 2, 6, 6)
    statistics = InputStatistics("products", {"layer": layer})
    statistics.add(layer, x)
    ((products, _),) = statistics.taken()
    matrix = as_matrix(layer, layer.weight.detach())
    # Σ y² over all outputs is Σ_rows w H wᵀ.
    with torch.no_grad():
        assert torch.allclose((matrix @ products @ matrix.T).diagonal().sum(), layer(x).square().sum(), rtol=1e-4)
    assert torch.equal(from_matrix(layer, matrix, layer.weight.shape), layer.weight)
    with pytest.raises(ScoreError, match="of type ConvTranspose2d is not a product of one matrix"):
        as_matrix(nn.ConvTranspose2d(2, 3, 3), torch.zeros(2, 3, 3, 3))


def test_what_is_kept_of_a_layer_of_rows_or_of_runs() -> None:
    scores = torch.tensor([[1.0, 4.0, 3.0, 2.0], [8.0, 7.0, 6.0, 5.0]])
    assert Keeping(4).of(scores).int().tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert Keeping(2, parts=2).of(scores).int().tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]
    assert Keeping(1, parts=4, run=2).of(scores).int().tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]]
    only = torch.tensor([[True, True, False, False], [True, False, False, True]])
    assert Keeping(3, allowed=only).of(scores).int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 1]]


def test_layers_that_see_one_picture_in_other_windows_share_nothing() -> None:
    torch.manual_seed(0)
    small, wide, alike = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)
    layers = {"small": small, "wide": wide, "alike": alike}
    statistics = InputStatistics("products", layers)
    x = torch.randn(2, 2, 5, 5)
    with shown(layers.values(), statistics.add), torch.no_grad():
        for layer in layers.values():
            layer(x)
    found = {names: tuple(products.shape) for products, names in ((p, tuple(n)) for p, n in statistics.taken())}
    assert found == {("small",): (2, 2), ("wide", "alike"): (18, 18)}
