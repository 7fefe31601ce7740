"""Kernels and draws of Gaussian processes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from prune_search.training.gaussian_processes import KERNELS, GaussianProcess
from prune_search.training.randomness import generator


def inputs(count: int = 6, size: int = 5) -> torch.Tensor:
    return torch.randn(count, size, generator=generator(0, "inputs"))


@pytest.mark.parametrize("kernel", KERNELS)
def test_draws_have_the_covariance_of_the_kernel(kernel: str) -> None:
    process = GaussianProcess(kernel, amplitude=1.3, bias=0.0 if KERNELS[kernel].stationary else 0.4)
    drawn = process.draw(inputs(), 40_000, generator(0, "draws")).double()
    wanted = process.covariance(inputs())
    # Of 40,000 draws a covariance is off by about √(2 / 40,000) of its variances.
    assert torch.allclose(torch.cov(drawn.T), wanted, atol=4 * math.sqrt(2 / 40_000) * float(wanted.diagonal().max()))
    assert drawn.mean(0).abs().max() < 4 * math.sqrt(float(wanted.diagonal().max()) / 40_000)


def test_values_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    rbf = GaussianProcess(lengthscale=5.0, amplitude=2.0).covariance(x)
    assert rbf[0, 1].item() == pytest.approx(4 * math.exp(-25 / 50))
    assert GaussianProcess("linear", 2.0, bias=3.0).covariance(x).tolist() == [[9.0, 9.0], [9.0, 4 * 25 / 2 + 9]]
    # E[relu(u) relu(v)] of one variable is half its variance.
    assert GaussianProcess("arc-cosine").covariance(x)[1, 1].item() == pytest.approx(25 / 4)
    noisy = GaussianProcess(lengthscale=5.0, noise=0.5).covariance(x)
    assert noisy.diagonal().tolist() == pytest.approx([1.25, 1.25])


def test_the_automatic_length_scale_of_standardized_inputs_is_the_root_of_twice_their_number() -> None:
    x = torch.randn(400, 50, generator=generator(0, "many"))
    automatic, known = GaussianProcess(), GaussianProcess(lengthscale=math.sqrt(2 * 50))
    assert torch.allclose(automatic.covariance(x), known.covariance(x), atol=0.01)


def test_the_arc_cosine_kernel_is_the_covariance_of_a_wide_layer_of_relus() -> None:
    x, source = inputs(4), generator(0, "network")
    units = nn.functional.relu(x @ torch.randn(5, 200_000, generator=source) / math.sqrt(5))
    found = (units @ units.T / 200_000).double()
    assert torch.allclose(found, GaussianProcess("arc-cosine").covariance(x), atol=0.02)
