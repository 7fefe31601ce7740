"""Whether channels can be cut out is tried on the network itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.cut_checks import NOT_ALIKE, CutChecks
from prune_search.pruning.mask.dependency_groups import Channels, channels_of, dependency_groups


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.second(torch.relu(self.first(inputs)))
        return scores


class Weighed(Plain):
    """Each channel counts differently on its way, by its place."""

    def forward(self, inputs: Tensor) -> Tensor:
        found = torch.relu(self.first(inputs))
        scores: Tensor = self.second(found * torch.arange(1, found.shape[1] + 1))
        return scores


def inner(model: Plain) -> Channels:
    names = {parameter: name for name, parameter in model.named_parameters()}
    (group,), _ = dependency_groups(model, [model.get_parameter("second.weight")], torch.zeros(2, 5))
    channels = channels_of(model, group, names)
    assert channels is not None
    return channels


def test_alike_channels_can_be_cut_and_those_that_count_by_place_cannot() -> None:
    inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    model = Plain()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert CutChecks(model, inputs).objection([inner(model)], proven=True) == ""
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    weighed = Weighed()
    assert CutChecks(weighed, inputs).objection([inner(weighed)]) == NOT_ALIKE
