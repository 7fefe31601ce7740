"""Muon for weights of two dimensions and AdamW for the others, as one optimizer."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe.axes import OPTIMIZERS
from prune_search.recipe.problems import UserError
from prune_search.tasks.data import Split
from prune_search.training import optimizers
from prune_search.training.loop import Course, Feed, Network, train
from prune_search.training.muon import MuonWithAdamW


def network() -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    return Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)


def feed() -> Feed:
    source = torch.Generator().manual_seed(1)
    return Feed(Split(torch.randn(32, 1, 4, 4, generator=source), torch.randint(3, (32,), generator=source)), 8, 3)


def test_each_parameter_is_trained_as_torchs_own_optimizers_do_it() -> None:
    one, other = network(), network()
    optimizer = OPTIMIZERS["muon"].make(list(one.model.parameters()), 0.02, adamw_lr=0.004, weight_decay=0.1)
    assert isinstance(optimizer, MuonWithAdamW)
    # Half the rate for one is half the rate for the other.
    train(one, Course(optimizer, feed(), 0, lambda step: 0.01), 0, 5)
    flat = [p for p in other.model.parameters() if p.ndim == 2]
    rest = [p for p in other.model.parameters() if p.ndim != 2]
    apart = (
        torch.optim.Muon(flat, lr=0.01, momentum=0.95, weight_decay=0.1),
        torch.optim.AdamW(rest, lr=0.002, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    )
    for step in range(5):
        other.model.zero_grad()
        other.gradients(other, feed(), step)
        for half in apart:
            half.step()  # type: ignore[no-untyped-call]
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_masked_weights_stay_exactly_zero_though_their_update_is_not() -> None:
    net = network()
    weight = net.model[4].weight  # type: ignore[index]
    mask = torch.rand(3, 8, generator=torch.Generator().manual_seed(2)) > 0.5
    optimizer = OPTIMIZERS["muon"].make(list(net.model.parameters()), 0.02)
    keeper = MaskKeeper(net.model, MaskSet({"4.weight": mask}), optimizer)
    before = weight.detach().clone()
    train(net, Course(optimizer, feed(), 0, lambda step: 0.02, [keeper.hook()]), 0, 4)
    assert (weight[~mask] == 0).all()
    assert (optimizer.state[weight]["momentum_buffer"][~mask] == 0).all()
    assert (weight[mask] != before[mask]).all()


def test_networks_of_one_kind_of_parameter_are_trained_too() -> None:
    for model in (nn.Linear(3, 2, bias=False), nn.LayerNorm(3)):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = OPTIMIZERS["muon"].make(list(model.parameters()), 0.02)
        model(torch.randn(4, 3)).square().sum().backward()
        assert optimizer.step(lambda: 1.5) == 1.5
        assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_torch_without_it_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "version", lambda name: "2.8.1+cpu")
    check = OPTIMIZERS["muon"].facts.check
    assert check is not None
    assert check(lr=0.02) == "muon needs torch 2.9 or later (this is 2.8)"
    with pytest.raises(UserError, match=r"muon needs torch 2.9 or later \(this is 2.8\)"):
        OPTIMIZERS["muon"].make(list(nn.Linear(2, 2).parameters()), 0.02)
