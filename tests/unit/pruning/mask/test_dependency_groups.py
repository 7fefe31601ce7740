"""Torch-Pruning's groups as what channels own of several layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.dependency_groups import channels_of, dependency_groups, makers_of


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.inner, self.outer = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.norm(self.stem(inputs))
        found = found + self.outer(torch.relu(self.inner(found)))
        scores: Tensor = self.head(found.mean(dim=(2, 3)))
        return scores


def test_what_a_shortcut_adds_up_goes_together_and_outputs_stay() -> None:
    model = Residual().train()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups, lost = dependency_groups(model, [model.get_parameter("head.weight")], torch.zeros(2, 1, 5, 5))
    made = {frozenset(makers_of(group, names)): channels_of(model, group, names) for group in groups}
    assert not lost
    assert set(made) == {frozenset({"stem.weight", "outer.weight"}), frozenset({"inner.weight"})}
    both = made[frozenset({"stem.weight", "outer.weight"})]
    assert both is not None
    assert both.size == 4
    assert set(both.owners) == {"stem.weight", "outer.weight"}
    claims = {(claim.parameter, claim.role, claim.dimension) for claim in both.claims}
    assert {
        ("stem.bias", "held", 0),
        ("norm.weight", "scale", 0),
        ("inner.weight", "reader", 1),
        ("head.weight", "reader", 1),
    } <= claims
    assert {claim.parameter for claim in both.beside} == {"norm.running_mean", "norm.running_var"}
    # The network is left as it was.
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
