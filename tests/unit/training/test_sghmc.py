"""The sampler's stationary distribution beside a Gaussian posterior, and its noise."""

from __future__ import annotations

import pytest
import torch

from prune_search.training.optimizers import load_state_tensors, state_tensors, zero_masked
from prune_search.training.sghmc import SGHMC, Posterior

COUNT = 2000


def sampled(precision: float, mean: float, decay: float, examples: int, steps: int = 1200) -> torch.Tensor:
    """Last values of many independent chains on a mean loss of precision · (w - mean)² / 2."""
    weights = torch.nn.Parameter(torch.zeros(COUNT))
    sampler = SGHMC([weights], 0.05, 0.1, 200, decay, Posterior(examples, 7))
    kept = []
    for step in range(steps):
        weights.grad = precision * (weights.detach() - mean)
        sampler.step()
        if step >= 700 and step % 100 == 0:
            kept.append(weights.detach().clone())
    return torch.cat(kept)


@pytest.mark.parametrize(("precision", "mean", "decay", "examples"), [(1.0, 2.0, 0.0, 1), (0.5, -1.0, 0.5, 4)])
def test_samples_have_the_mean_and_the_variance_of_a_gaussian_posterior(
    precision: float, mean: float, decay: float, examples: int
) -> None:
    drawn = sampled(precision, mean, decay, examples)
    # exp(-N (precision (w - mean)² + decay w²) / 2)
    total = examples * (precision + decay)
    assert drawn.mean().item() == pytest.approx(examples * precision * mean / total, abs=0.05 * total**-0.5)
    assert drawn.var().item() == pytest.approx(1 / total, rel=0.1)


def test_a_weight_without_a_gradient_does_not_move_and_begins_when_it_has_one() -> None:
    weights = torch.nn.Parameter(torch.tensor([1.0, 0.0, 3.0]))
    sampler = SGHMC([weights], 0.1, 0.1, 3, 0.1, Posterior())
    for _ in range(5):
        weights.grad = torch.tensor([0.5, 0.0, 0.2])
        sampler.step()
    assert weights[1].item() == 0.0
    assert weights[0].item() != 1.0
    zero_masked(sampler, weights, torch.tensor([True, True, False]))
    with torch.no_grad():
        weights[2] = 0.0
    weights.grad = torch.tensor([0.5, 0.3, 0.0])
    sampler.step()
    assert weights[1].item() != 0.0
    assert weights[2].item() == 0.0
    assert sampler.state[weights]["square"][1].item() == pytest.approx(0.09)


def test_the_scale_of_the_gradient_is_learned_in_the_burn_in_and_then_stays() -> None:
    weights = torch.nn.Parameter(torch.zeros(2))
    sampler = SGHMC([weights], 0.01, 0.1, 4, 0.0, Posterior())
    squares = []
    for step in range(8):
        weights.grad = torch.tensor([1.0, 10.0]) * (step + 1)
        sampler.step()
        squares.append(sampler.state[weights]["square"].clone())
    assert not torch.equal(squares[2], squares[3])
    assert all(torch.equal(squares[3], later) for later in squares[4:])
    assert torch.allclose(squares[3][1] / squares[3][0], torch.tensor(100.0))


def test_noise_is_that_of_seed_place_and_step_and_a_restored_sampler_goes_on_bit_for_bit() -> None:
    def run(posterior: Posterior, stops: bool) -> torch.Tensor:
        weights = torch.nn.Parameter(torch.ones(4))
        sampler = SGHMC([weights], 0.05, 0.1, 2, 0.0, posterior)
        for step in range(6):
            weights.grad = weights.detach() + step
            sampler.step()
            if stops:
                stored = state_tensors(sampler, {weights: "w"})
                weights = torch.nn.Parameter(weights.detach().clone())
                sampler = SGHMC([weights], 0.05, 0.1, 2, 0.0, posterior)
                load_state_tensors(sampler, {weights: "w"}, stored)
        return weights.detach()

    whole = run(Posterior(3, 1, ("train",)), False)
    assert torch.equal(whole, run(Posterior(3, 1, ("train",)), True))
    assert not torch.equal(whole, run(Posterior(3, 2, ("train",)), False))
    assert not torch.equal(whole, run(Posterior(3, 1, ("retrain", 1)), False))
