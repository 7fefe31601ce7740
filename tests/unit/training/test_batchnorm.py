"""Recalibration: new running statistics, and nothing else changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from prune_search.training.batchnorm import recalibrate


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=0.3), nn.Dropout(0.5), nn.Linear(6, 2))
    model(torch.randn(8, 4))
    return model


def batches(count: int = 5) -> list[Tensor]:
    return [torch.randn(16, 4, generator=torch.Generator().manual_seed(index)) * (index + 1) for index in range(count)]


def norm_of(model: nn.Sequential) -> nn.BatchNorm1d:
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    return norm


def test_statistics_are_the_mean_over_the_batches() -> None:
    model = network()
    norm = norm_of(model)
    recalibrate(model, batches())
    hidden = [model[0](batch).detach() for batch in batches()]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([h.var(0) for h in hidden]).mean(0))


def test_it_does_not_depend_on_what_stood_there_before() -> None:
    one, other = network(), network()
    other(torch.full((8, 4), 100.0))
    recalibrate(one, batches())
    recalibrate(other, batches())
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_everything_else_is_left_as_it_was(training: bool) -> None:
    model = network().train(training)
    model[2].train(not training)  # a flag set by hand
    flags = [module.training for module in model.modules()]
    parameters = [parameter.clone() for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    recalibrate(model, batches())
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(old, new) for old, new in zip(parameters, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert norm_of(model).momentum == 0.3
    assert torch.equal(torch.get_rng_state(), random_state)


def test_flags_and_momentum_come_back_after_an_error() -> None:
    model = network().eval()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        recalibrate(model, [torch.zeros(8, 4), torch.zeros(8, 5)])
    assert not any(module.training for module in model.modules())
    assert norm_of(model).momentum == 0.3


@pytest.mark.parametrize("model", [nn.Linear(4, 2), nn.BatchNorm1d(4, track_running_stats=False)])
def test_a_network_without_running_statistics_asks_for_no_batch(model: nn.Module) -> None:
    asked = []

    def supply() -> Iterator[Tensor]:
        asked.append(True)
        yield torch.zeros(8, 4)

    recalibrate(model, supply())
    assert not asked
    assert model.training


def test_no_batch_is_an_error_and_changes_nothing() -> None:
    model = network()
    before = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(ValueError, match="without a batch"):
        recalibrate(model, [])
    assert all(torch.equal(old, new) for old, new in zip(before, model.buffers(), strict=True))
