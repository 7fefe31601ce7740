"""The library face against plain definitions, on a network that must stay as it was."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prune_search
from prune_search import UserError, find_mask, layer_densities, next_level, score, sparsity_at
from prune_search.pruning.mask.scopes.knapsack import solve
from prune_search.tasks.network import prunable_weights


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(32, 5)
    )


X = torch.randn(6, 4, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 4, 0])
BATCHES = [(X, Y)]


def flat(tensors: Any, names: Any) -> Tensor:
    return torch.cat([tensors[name].detach().flatten() for name in names])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_are_those_of_a_plain_backward_pass_and_the_network_stays_as_it_was(dtype: torch.dtype) -> None:
    model = network().to(dtype).eval()
    batches = [(X.to(dtype), Y), (X.to(dtype) * 0.5, Y)]
    model[5].weight.requires_grad_(False)
    model[5].bias.grad = torch.ones(5, dtype=dtype)
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    ours = score("snip", model, batches=batches, loss=lambda out, labels: nn.functional.cross_entropy(out, labels))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not model[5].weight.requires_grad
    assert torch.equal(model[5].bias.grad, torch.ones(5, dtype=dtype))
    assert model[0].weight.grad is None
    model[5].weight.requires_grad_(True)
    for inputs, labels in batches:
        (nn.functional.cross_entropy(model(inputs), labels) / 2).backward()  # type: ignore[no-untyped-call]
    for name, weight in prunable_weights(model).items():
        assert weight.grad is not None
        assert torch.allclose(ours[name], (weight * weight.grad).abs(), rtol=1e-4)


@pytest.mark.parametrize(("rounding", "kept"), [("half-up", 0), ("floor-keep", 1), ("floor-drop", 2)])
def test_roundings_are_applied_at_each_iteration(rounding: str, kept: int) -> None:
    """An iterated, nested SNIP by hand."""
    model = network().eval()
    names = list(prunable_weights(model))
    dense = {name: weight.detach().clone() for name, weight in prunable_weights(model).items()}
    total = sum(weight.numel() for weight in dense.values())

    def count(share: float) -> int:
        asked = (share * total + 0.5, share * total, total - math.floor((1 - share) * total))
        return math.floor(asked[kept])

    mask = torch.ones(total, dtype=torch.bool)
    for iteration in (1, 2, 3):
        parts = dict(zip(names, torch.split(mask, [dense[name].numel() for name in names]), strict=True))
        with torch.no_grad():
            for name, weight in prunable_weights(model).items():
                weight.copy_(dense[name] * parts[name].reshape(weight.shape))
        model.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]
        grads = {name: weight.grad for name, weight in prunable_weights(model).items()}
        scores = (flat(dense, names) * flat(grads, names)).abs().masked_fill(~mask, -1)
        mask = torch.zeros_like(mask)
        mask[scores.topk(count(0.1 ** (iteration / 3))).indices] = True
    with torch.no_grad():
        for name, weight in prunable_weights(model).items():
            weight.copy_(dense[name])
    schedule = {"name": "exponential", "iterations": 3}
    ours = find_mask(model, "snip", 0.9, schedule=schedule, batches=BATCHES, rounding=rounding)
    assert torch.equal(flat(ours, names), mask)
    assert ours.receipt().units_asked == count(0.1)


def test_force_brings_back_what_iterative_snip_does_not() -> None:
    model = network().eval()
    plain = {"name": "exponential", "iterations": 5}
    force = find_mask(model, "force", 0.9, schedule=plain, batches=BATCHES)
    assert force.sha256 == find_mask(model, "snip", 0.9, schedule=plain, batches=BATCHES, nested=False).sha256
    nested = find_mask(model, "iterative-snip", 0.9, schedule=plain, batches=BATCHES)
    assert nested.sha256 == find_mask(model, "snip", 0.9, schedule=plain, batches=BATCHES).sha256
    assert force.receipt().units_kept == nested.receipt().units_kept


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("control", [None, "shuffle", "random", "invert"])
def test_n_of_every_4_inputs_are_kept_in_every_run(n: int, control: str | None) -> None:
    model = network()
    mask = find_mask(model, granularity=f"{n}:4", control=control)
    for name, weight in prunable_weights(model).items():
        runs = mask[name].movedim(1, -1).reshape(-1, 4)
        assert bool((runs.sum(1) == n).all())
        sizes = weight.detach().abs().movedim(1, -1).reshape(-1, 4)
        if control is None:
            assert torch.equal(runs, torch.zeros_like(runs).scatter_(1, sizes.topk(n).indices, True))
        if control == "invert":
            assert torch.equal(runs, torch.zeros_like(runs).scatter_(1, (-sizes).topk(n).indices, True))
    assert mask.receipt().asked == 1 - n / 4


def test_layers_whose_inputs_are_no_multiple_of_m_take_no_part() -> None:
    mask = find_mask(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), granularity="2:4")
    assert [layer.units for layer in mask.receipt().layers] == [0, 24]
    with pytest.raises(UserError, match="this network has no layer that can be pruned this way"):
        find_mask(nn.Linear(6, 2), granularity="2:4")
    with pytest.raises(UserError, match=r"is always 0\.5 with this granularity"):
        find_mask(network(), sparsity=0.9, granularity="2:4")
    with pytest.raises(UserError, match="must be global or uniform"):
        find_mask(network(), scope="erk", granularity="2:4")


def test_blocks_and_kernels_go_whole() -> None:
    model = network()
    mask = find_mask(model, "l1", 0.5, granularity="kernel", parameters=["0"])
    kernels = mask["0.weight"].flatten(2)
    assert torch.equal(kernels.any(2), kernels.all(2))
    assert int(kernels.any(2).sum()) == 16
    assert bool(mask["5.weight"].all())
    block = find_mask(nn.Linear(6, 4), "l1", 0.5, granularity={"name": "block", "rows": 2, "columns": 3})
    tiles = block["weight"].reshape(2, 2, 2, 3).permute(0, 2, 1, 3).flatten(2)
    assert torch.equal(tiles.any(2), tiles.all(2))
    assert int(tiles.any(2).sum()) == 2


def test_scopes_leave_out_keep_at_least_and_take_what_is_written() -> None:
    model = network()
    mask = find_mask(model, sparsity=0.9, scope={"name": "global", "exclude": ["last"]})
    assert bool(mask["5.weight"].all())
    assert int(mask["0.weight"].sum()) == int(0.1 * 288 + 0.5)
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(1e-3)
    for name in ("global", "uniform", "erk"):
        floor = find_mask(model, sparsity=0.95, scope={"name": name, "least": 20})
        assert int(floor["0.weight"].sum()) >= 20
    total = find_mask(model, sparsity=0.9, scope={"name": "global", "least": 20}).receipt()
    assert total.units_kept == total.units_asked
    written = {"name": "explicit", "layers": {"0": 0.75, "5.weight": 0.5}}
    mask = find_mask(model, scope=written)
    assert [layer.kept for layer in mask.receipt().layers] == [72, 80]
    assert layer_densities(model, written) == {"0.weight": 0.25, "5.weight": 0.5}
    iterated = find_mask(model, scope=written, schedule={"name": "cubic", "iterations": 4})
    assert iterated.sha256 == mask.sha256
    with pytest.raises(UserError, match=r"did you mean '5'|is not one of"):
        find_mask(model, scope={"name": "explicit", "layers": {"55": 0.5}})


def test_densities_of_a_scope_are_real_numbers_and_sum_to_the_share() -> None:
    model = network()
    sizes = {name: weight.numel() for name, weight in prunable_weights(model).items()}
    for name in ("uniform", "er", "erk"):
        found = layer_densities(model, name, 0.9)
        assert sum(found[layer] * size for layer, size in sizes.items()) == pytest.approx(0.1 * sum(sizes.values()))
    with pytest.raises(UserError, match="depends on scores"):
        layer_densities(model, "global", 0.9)


def test_the_next_level_removes_a_fraction_of_what_is_left() -> None:
    model = network()
    names = list(prunable_weights(model))
    mask, left = find_mask(model, sparsity=0.0), 448
    sizes = flat(dict(prunable_weights(model)), names).abs()
    for _ in range(4):
        mask = next_level(mask, model, 0.2, "floor-keep")
        left = math.floor(0.8 * left)
        wanted = torch.zeros(448, dtype=torch.bool)
        wanted[sizes.topk(left).indices] = True
        assert torch.equal(flat(mask, names), wanted)
        assert mask.receipt().units_asked == left


def test_sparsities_along_a_path() -> None:
    cubic = [sparsity_at("cubic", t, initial=0.2, final=0.9, begin=10, end=110) for t in (0, 10, 60, 110, 200)]
    assert cubic == pytest.approx([0.2, 0.2, 0.9 - 0.7 * 0.5**3, 0.9, 0.9])
    assert sparsity_at("exponential", 1, final=0.99, begin=0, end=2) == pytest.approx(0.9)
    assert sparsity_at("linear", 1, initial=0.5, final=0.9, begin=0, end=4) == pytest.approx(0.6)
    with pytest.raises(UserError, match="did you mean 'cubic'"):
        sparsity_at("cubik", 1)


def test_the_knapsack_is_solved_to_its_optimum() -> None:
    draw = torch.Generator().manual_seed(2)
    for _ in range(8):
        losses = torch.rand(4, 3, generator=draw).tolist()
        costs = (1 + torch.rand(4, 3, generator=draw)).tolist()
        every = [
            (sum(losses[i][c] for i, c in enumerate(choice)), choice)
            for choice in torch.cartesian_prod(*[torch.arange(3)] * 4).tolist()
            if sum(costs[i][c] for i, c in enumerate(choice)) <= 5.8
        ]
        if every:
            assert solve(losses, costs, 5.8) == min(every)[1]
    with pytest.raises(UserError, match="below the minimum"):
        solve([[1.0]], [[2.0]], 1.0)


def test_a_knapsack_keeps_exactly_the_asked_units_or_stays_within_its_budget() -> None:
    model = network().eval()
    receipt = find_mask(model, sparsity=0.8, scope="knapsack", batches=BATCHES).receipt()
    assert receipt.units_kept == receipt.units_asked == int(0.2 * 448 + 0.5)
    costs = prune_search.layer_costs(model, X)
    assert costs == {"0.weight": 2 * 288 * 4, "5.weight": 2 * 160}
    mask = find_mask(model, scope={"name": "knapsack", "budget": {"flops": 0.3}}, batches=BATCHES)
    kept = sum(costs[layer.name] * layer.kept / layer.total for layer in mask.receipt().layers)
    assert 0 < kept <= 0.3 * sum(costs.values())
    with pytest.raises(UserError, match="layer_costs measures them"):
        find_mask(model, scope={"name": "knapsack", "budget": {"latency": 0.3}}, batches=BATCHES)
    table = prune_search.layer_costs(model, X, "latency")
    timed = {"name": "knapsack", "budget": {"latency": 0.5}, "costs": table}
    mask = find_mask(model, scope=timed, batches=BATCHES)
    spent = sum(table[layer.name] * layer.kept / layer.total for layer in mask.receipt().layers)
    assert spent <= 0.5 * sum(table.values()) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"criterion": "sinp"}, "did you mean 'snip'"),
        ({"criterion": "snip", "sparsity": 0.5}, "are required by"),
        ({"sparsity": 1.5}, "from 0 to 1"),
        ({}, "is missing"),
        ({"sparsity": 0.5, "rounding": "half"}, "did you mean 'half-up'"),
        ({"sparsity": 0.5, "schedule": "linar"}, "did you mean 'linear'"),
        ({"sparsity": 0.5, "parameters": ["7"]}, "parameters"),
        ({"criterion": "synflow", "sparsity": 0.5}, "pass batches or example_input"),
        ({"criterion": "all", "sparsity": 0.5}, "sparsity: must be 0 with criterion all, which keeps everything"),
        ({"criterion": "fpgm", "sparsity": 0.5}, "criterion: fpgm works only with granularity"),
        ({"sparsity": 0.5, "scope": {"name": "knapsack", "budget": {"flops": 0.5}}}, "scope: needs either a budget"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(asked: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match) as told:
        find_mask(network(), **asked)
    assert "\n" not in str(told.value)


def test_shared_weights_are_scored_once() -> None:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    model = nn.Sequential(first, nn.ReLU(), second)
    ours = score("snip", model, batches=[(torch.randn(3, 6), torch.tensor([0, 1, 2]))])
    assert list(ours) == ["0.weight"]
    assert find_mask(model, sparsity=0.5).sparsity() == 0.5
