"""Networks of a user that are out of the ordinary: frozen, parametrized, or raising while they are trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_search.api.run import run
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError
from prune_search.trial.errors import TrialError

SHORT = {"train.steps": "1ep", "mask.sparsity": 0.5}


def frozen(shape: tuple[int, ...], classes: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes))
    network[1].requires_grad_(False)
    return network


def normed(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, classes)))


class Moody(nn.Module):
    """Works when it is looked at, and fails when it is trained."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            raise LookupError("no mood\nfor this")
        scores: Tensor = self.layer(inputs.flatten(1))
        return scores


def moody(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Moody(classes)


def test_a_frozen_weight_is_scored_and_pruned_and_stays_frozen() -> None:
    result = run("snip", set=SHORT, where=Where(model=frozen), fresh=True)
    assert result.receipt.units_kept == (64 * 8 + 8 * 10) // 2
    kept = result.masks["1.weight"]
    drawn = run("snip", set={**SHORT, "mask.sparsity": 0.0}, where=Where(model=frozen), fresh=True)
    assert torch.equal(result.tensors["1.weight"], drawn.tensors["1.weight"] * kept)


def test_a_weight_that_is_computed_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"task\.model: 1\.weight: computed from other parameters"):
        run("snip", set=SHORT, where=Where(model=normed), fresh=True)


def test_an_error_of_the_users_network_is_one_line() -> None:
    with pytest.raises(TrialError, match=r"^your model raised LookupError: no mood$") as caught:
        run("dense", set={"train.steps": "1ep"}, where=Where(model=moody), fresh=True)
    assert caught.value.kind == "code"
