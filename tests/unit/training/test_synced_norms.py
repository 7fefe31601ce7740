"""BatchNorm over all workers: for one worker it is the one of torch; several are compared in test_data_parallel.py."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from prune_search.training.synced_norms import synced_norms


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A group of one worker, without a network."""
    dist.init_process_group(
        "gloo",
        store=dist.HashStore(),  # type: ignore[attr-defined]
        rank=0,
        world_size=1,
    )
    yield
    dist.destroy_process_group()


def networks() -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5))
    model = model.double()
    return model, copy.deepcopy(model)


def test_of_one_worker_outputs_gradients_and_statistics_are_those_of_torch() -> None:
    ours, theirs = networks()
    inputs = torch.randn(8, 2, 6, 6, dtype=torch.float64) + 1000.0
    with synced_norms(ours):
        found = ours(inputs)
        found.pow(3).sum().backward()
    wanted = theirs(inputs)
    wanted.pow(3).sum().backward()
    assert torch.allclose(found, wanted)
    for name, parameter in theirs.named_parameters():
        other = ours.get_parameter(name).grad
        assert parameter.grad is not None
        assert other is not None
        assert torch.allclose(other, parameter.grad, atol=1e-6), name
    for name, buffer in theirs.named_buffers():
        assert torch.allclose(ours.get_buffer(name), buffer), name


def test_in_evaluation_and_after_the_block_the_modules_are_what_they_were() -> None:
    ours, theirs = networks()
    inputs = torch.randn(8, 2, 6, 6, dtype=torch.float64)
    with synced_norms(ours):
        assert torch.equal(ours.eval()(inputs), theirs.eval()(inputs))
    assert "forward" not in vars(ours[1])


def test_a_module_whose_pass_is_of_its_own_is_left_alone() -> None:
    class Other(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of torch
            return input

    model, inputs = nn.Sequential(Other(2)), torch.randn(3, 2, 4, 4)
    with synced_norms(model):
        assert model(inputs) is inputs
