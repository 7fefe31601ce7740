"""The dynamics of Gibbs pruning: masks of the forward pass, whole weights, and a deterministic end."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from prune_search import Dynamics, UserError, find_mask

X = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(8) % 3


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))


BETA = {"from": 1.0, "to": 1e6, "until": "20it", "every": "4it"}


@pytest.mark.parametrize("granularity", ["weight", "kernel", "filter"])
def test_the_forward_pass_sees_masks_the_weights_are_whole_and_the_end_is_deterministic(granularity: str) -> None:
    model, twin = network(), network()
    optimizer, plain = (torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3) for m in (model, twin))
    dynamics = Dynamics(
        "gibbs",
        model,
        optimizer,
        sparsity=0.5,
        scope="uniform",
        granularity=granularity,
        steps=30,
        hamiltonian=granularity,
        coupling=0.01,
        beta=BETA,
        example_input=X,
    )
    kept = []
    for i in range(30):
        model.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]
        masks = {name: parameter.detach() != 0 for name, parameter in model.named_parameters() if "weight" in name}
        kept.append(float(masks["0.weight"].double().mean()))
        dynamics.step(i)
        # The same by hand: the gradient of w ⊙ m, times m.
        whole = {name: parameter.detach().clone() for name, parameter in twin.named_parameters()}
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                if name in masks:
                    parameter.mul_(masks[name])
        twin.zero_grad()
        nn.functional.cross_entropy(twin(X), Y).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                parameter.copy_(whole[name])
                assert parameter.grad is not None
                parameter.grad.mul_(masks.get(name, torch.tensor(True)))
        plain.step()
        for ours, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(ours, other, atol=1e-6)
            assert bool((ours != 0).all())
    assert 0.2 < kept[0] < 0.8
    wanted = find_mask(model, "l2", 0.5, "uniform", granularity, example_input=X)
    mask = dynamics.finish()
    assert mask.sha256 == wanted.sha256
    assert mask.receipt().units_kept == mask.receipt().units_asked
    for name, one in mask.items():
        assert bool((model.get_parameter(name)[~one] == 0).all())
    handles = len(model._forward_pre_hooks)
    assert handles == 0


def test_masks_are_functions_of_seed_and_step_alone() -> None:
    def first_mask(seed: int, steps: int) -> Tensor:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        dynamics = Dynamics("gibbs", model, optimizer, sparsity=0.5, scope="uniform", steps=30, seed=seed, beta=BETA)
        for i in range(steps):
            model.zero_grad()
            model(X).sum().backward()
            dynamics.step(i)
        model(X)
        return model.get_parameter("0.weight").detach() != 0

    assert torch.equal(first_mask(0, 1), first_mask(0, 1))
    assert not torch.equal(first_mask(0, 1), first_mask(0, 2))
    assert not torch.equal(first_mask(0, 1), first_mask(1, 1))


@pytest.mark.parametrize("last", [None, "before", "at"])
def test_beta_is_held_and_reaches_its_end_where_it_was_asked(last: str | None) -> None:
    """The released code takes numpy.logspace with as many values as there are intervals; a recipe of 0.1 one more."""
    from prune_search.pruning.retrain.dynamics.gibbs import _Sampler

    model = network()
    beta = BETA if last is None else {**BETA, "last": last}
    dynamics = Dynamics(
        "gibbs", model, torch.optim.SGD(model.parameters(), 0.1), sparsity=0.5, scope="uniform", steps=30, beta=beta
    )
    sampler = getattr(dynamics._hooks[0].before_step, "__self__", None)
    assert isinstance(sampler, _Sampler)
    values = numpy.logspace(0, 6, num=6 if last == "at" else 5)
    assert [sampler.beta(step) for step in range(20)] == pytest.approx(numpy.repeat(values[:5], 4), rel=1e-12)
    assert [sampler.beta(step) for step in (20, 29)] == [1e6, 1e6]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hamiltonian": "kernel"}, "mask.granularity must be kernel"),
        ({"scope": "global"}, "scope: must be uniform"),
        ({"beta": {"until": "31it"}}, "beta.until: 31it is past the end"),
        ({"beta": {"to": 0.0}}, "beta.to: must be a number > 0"),
        ({"beta": {"too": 1.0}}, "did you mean 'to'"),
        ({"finish": "sampled"}, "finish"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    model = network()
    given = {"scope": "uniform", **options}
    with pytest.raises(UserError, match=said):
        Dynamics("gibbs", model, torch.optim.SGD(model.parameters(), 0.1), sparsity=0.5, steps=30, **given)
