"""Copies of sharded networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from prune_search.tasks.passes import twin_of
from prune_search.tasks.sharded_twin import twin_of_shards
from prune_search.tasks.shards import gathered, is_shard, is_sharded, resharded, shard_network


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A group of one worker, which holds all rows of a network that is sharded nevertheless."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


class Tied(nn.Module):
    """Blocks, a norm, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.blocks = nn.Sequential(*(nn.Linear(4, 4) for _ in range(2)))
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 4, bias=False)
        self.last.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.last(self.norm(self.blocks(self.first(inputs))))
        return found


def network() -> nn.Module:
    torch.manual_seed(0)
    model = Tied().eval()
    model.norm.get_buffer("running_mean").fill_(0.5)
    shard_network(model, (), torch.device("cpu"))
    return model


def test_a_copy_is_like_the_network_and_apart_from_it() -> None:
    model, inputs = network(), torch.randn(3, 4)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    outputs = model(inputs)
    # It has just gathered its weights.
    twin = twin_of(model)
    assert is_sharded(twin)
    assert not twin.training
    assert torch.equal(twin(inputs), outputs)
    # Whoever listens to the network's passes hears those of the copy too, as of one that is whole.
    assert len(calls) == 2
    resharded(twin)
    assert dict(twin.named_parameters()).keys() == dict(model.named_parameters()).keys()
    with torch.no_grad():
        for parameter in twin.parameters():
            assert is_shard(parameter)
            parameter.zero_()
        twin.get_buffer("norm.running_mean").zero_()
    resharded(model)
    assert torch.equal(model(inputs), outputs)


def test_a_copy_in_another_type_has_gradients_in_it() -> None:
    model = network()
    twin = twin_of_shards(model, torch.float64)
    twin(torch.randn(3, 4, dtype=torch.float64)).sum().backward()
    resharded(twin)
    for name, parameter in twin.named_parameters():
        assert parameter.dtype == torch.float64, name
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float64
    weight = gathered(model.get_parameter("blocks.0.weight"))
    assert torch.equal(gathered(twin.get_parameter("blocks.0.weight")), weight.double())
