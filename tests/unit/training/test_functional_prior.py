"""Priors that are searched for, beside priors that are known."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.training import functional_prior
from prune_search.training.functional_prior import (
    Parameters,
    PriorSearch,
    Variance,
    find_prior,
    functions_of,
    layers_of,
)
from prune_search.training.gaussian_processes import GaussianProcess
from prune_search.training.randomness import generator
from prune_search.training.wasserstein import CriticTraining

CRITIC = CriticTraining(15, 0.1, hidden=(16, 16))


def shown(size: int = 3, count: int = 60) -> torch.Tensor:
    return torch.randn(count, size, generator=generator(0, "inputs"))


def inputs(count: int) -> torch.Tensor:
    return shown()[:count]


def zeros(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


@pytest.mark.slow
def test_a_linear_layer_finds_the_variances_of_a_linear_kernel() -> None:
    # The closed form: σ_w = a and σ_b = b; the search begins at 1.31 for both.
    process = GaussianProcess("linear", amplitude=2.0, bias=0.5)
    how = PriorSearch(process, "gaussian", 6, 64, 60, 0.05, CRITIC)
    found = find_prior(nn.Linear(3, 1), how, inputs)
    sigma = {name: math.sqrt(one.typical) for name, one in found.variances.items()}
    assert found.end < 0.3 * found.start
    assert sigma["weight"] == pytest.approx(2.0, rel=0.2)
    assert sigma["bias"] == pytest.approx(0.5, abs=0.2)


@pytest.mark.slow
def test_the_distance_falls_for_a_hierarchical_prior_too() -> None:
    # There is no closed form: its functions have heavier tails than any Gaussian process.
    process = GaussianProcess("linear", amplitude=0.2, bias=0.1)
    found = find_prior(nn.Linear(3, 1), PriorSearch(process, "hierarchical", 6, 64, 40, 0.05, CRITIC), inputs)
    assert found.end < 0.7 * found.start
    assert all(one.shape is not None and one.typical < 1 for one in found.variances.values())


def test_a_network_is_as_its_own_limit_of_infinite_width_from_the_start() -> None:
    # σ = softplus(1) in both layers is where every search begins.
    sigma = math.log1p(math.e)
    model = nn.Sequential(nn.Linear(3, 400), nn.ReLU(), nn.Linear(400, 1))
    own = GaussianProcess("arc-cosine", amplitude=sigma, bias=sigma)
    how = PriorSearch(own, "gaussian", 4, 64, 0, 0.05, CRITIC)
    elsewhere = PriorSearch(GaussianProcess("arc-cosine", amplitude=0.5, bias=0.1), "gaussian", 4, 64, 0, 0.05, CRITIC)
    assert abs(find_prior(model, how, inputs).start) < 0.3
    assert find_prior(model, elsewhere, inputs).start > 1.0


def test_drawn_functions_have_the_covariance_of_that_limit() -> None:
    sigma = math.log1p(math.e)
    model = nn.Sequential(nn.Linear(3, 300), nn.ReLU(), nn.Linear(300, 1))
    parameters = Parameters(layers_of(model), "gaussian")
    shapes = {name: model.get_parameter(name).shape for name in parameters.raw}
    with torch.no_grad():
        drawn = functions_of(model, parameters.draw(shapes, 10_000, ("test",)), shown()[:4]).double()
    wanted = GaussianProcess("arc-cosine", amplitude=sigma, bias=sigma).covariance(shown()[:4])
    error = 4 * math.sqrt(2 / 10_000) * float(wanted.diagonal().max())
    assert torch.allclose(torch.cov(drawn.T), wanted, atol=error)


def test_each_output_of_each_network_is_a_function_and_norms_use_the_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2)).eval()
    pictures = torch.randn(6, 1, 5, 5)
    parameters = Parameters(layers_of(model), "gaussian")
    shapes = {name: model.get_parameter(name).shape for name in parameters.raw}
    drawn = parameters.draw(shapes, 3, ("test",))
    found = functions_of(model, drawn, pictures)
    assert found.shape == (3 * 2, 6)
    one = torch.func.functional_call(model, {name: value[1] for name, value in drawn.items()}, (pictures,))
    assert torch.allclose(found[2:4], one.T, atol=1e-5)
    how = PriorSearch(points=6, functions=4, iterations=1, critic=CriticTraining(2, 0.1, hidden=(4,)))
    prior = find_prior(model, how, lambda count: pictures[:count])
    assert sorted(prior.variances) == ["0.bias", "0.weight", "4.bias", "4.weight"]
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.buffers(), (torch.zeros(4), torch.ones(4), torch.tensor(0)), strict=True)
    )


def test_the_same_search_has_the_same_result_whatever_was_drawn_before(monkeypatch: pytest.MonkeyPatch) -> None:
    how = PriorSearch(points=4, functions=4, iterations=2, critic=CriticTraining(2, 0.1, hidden=(4,)))
    searched = []
    for seed in (0, 1):
        monkeypatch.setattr(functional_prior, "_KNOWN", OrderedDict())
        torch.manual_seed(seed)
        searched.append(find_prior(nn.Linear(3, 2), how, inputs, zeros))
    assert searched[0].variances == searched[1].variances
    assert searched[0].course == searched[1].course
    # Of the same network it is not searched for twice.
    assert find_prior(nn.Linear(3, 2), how, inputs, zeros) is searched[1]


def test_a_variance_that_is_inverse_gamma_distributed_is_drawn_as_such() -> None:
    variance = Variance(rate=3.0, shape=5.0)
    drawn = torch.tensor([variance.draw(generator(number, "draw")) for number in range(2000)])
    # The mean of an inverse gamma distribution is rate / (shape - 1); that of 1 / variance is shape / rate.
    assert drawn.mean().item() == pytest.approx(3 / 4, rel=0.05)
    assert (1 / drawn).mean().item() == pytest.approx(1 / variance.typical, rel=0.05)
    assert Variance(rate=0.25).draw(generator(0)) == 0.25


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (nn.Linear(3, 1), lambda count: {"ids": torch.zeros(4)}, "one tensor of real numbers"),
        (nn.Linear(3, 1), lambda count: torch.zeros(4, 3, dtype=torch.int64), "one tensor of real numbers"),
        (nn.LayerNorm(3), inputs, "there is none"),
        (nn.Linear(4, 1), inputs, "does not take"),
    ],
)
def test_what_does_not_fit_is_said(model: nn.Module, data: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_prior(model, PriorSearch(iterations=1), data)  # type: ignore[arg-type]
