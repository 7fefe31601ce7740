"""The pass of SynFlow: the fast one is the plain one, and both are the formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.scoring import Scoring
from prune_search.pruning.mask.synflow_pass import fast_pass, plain_pass
from prune_search.tasks.network import prunable_weights


def scoring(model: nn.Module, *shape: int) -> Scoring:
    weights = prunable_weights(model)
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    example = torch.zeros(1, *shape)
    return Scoring(model, weights, dense, lambda: [], nn.functional.cross_entropy, 1, (), lambda: example)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 2)
    )
    with torch.no_grad():
        for name in ("running_mean", "running_var"):
            model.get_buffer(f"1.{name}").uniform_(0.5, 2.0)
        model.get_parameter("1.weight").uniform_(-2.0, 2.0)
    return model


def test_the_plain_pass_is_w_times_its_slope_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        model.get_parameter("1.weight").copy_(torch.tensor([[-0.5, 2.0]]))
    given = scoring(model, 2)
    found = plain_pass(given, torch.float64).scores(given)
    assert found["0.weight"].tolist() == [[0.5, 1.0], [6.0, 0.0]]
    assert found["1.weight"].tolist() == [[1.5, 6.0]]
    # The network itself keeps its signs.
    assert model.get_parameter("0.weight").tolist() == [[1.0, -2.0], [3.0, 0.0]]


def test_folded_and_laid_out_by_pixels_the_scores_are_the_same() -> None:
    given = scoring(convolutional(), 2, 4, 4)
    plain = plain_pass(given, torch.float64).scores(given)
    fast = fast_pass(given)
    assert fast.factors is not None
    for _ in range(2):
        found = fast.scores(given)
        assert all(
            found[name].double().tolist() == pytest.approx(score.tolist(), rel=1e-4)
            if score.dim() == 1
            else torch.allclose(found[name].double(), score, rtol=1e-4)
            for name, score in plain.items()
        )


def test_a_network_that_views_pictures_is_scored_too() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(2, 4, 3), nn.Linear(16, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            seen = self.first(inputs)
            found: Tensor = self.last(seen.view(len(seen), -1))
            return found

    torch.manual_seed(0)
    given = scoring(Viewing(), 2, 4, 4)
    plain, fast = plain_pass(given, torch.float64).scores(given), fast_pass(given).scores(given)
    assert all(torch.allclose(fast[name].double(), score, rtol=1e-4) for name, score in plain.items())
