"""Criteria against what is known about them: quadratics, closed forms, and algorithms as their papers write them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prune_search
from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet, Pool, ScoreError, by_row
from prune_search.pruning.mask.reductions import REDUCTIONS
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Batches, Scoring, sample_gradients
from prune_search.recipe.axes import CRITERIA, GRANULARITIES, NORMALIZATIONS
from prune_search.recipe.blocks import Mask
from prune_search.recipe.fields import Value
from prune_search.recipe.reading import Reading
from prune_search.recipe.registry import AnyAxis
from prune_search.tasks.models.networks.resnet import ResNet
from prune_search.tasks.network import prunable_weights

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean() / 2


def given(model: nn.Module, batches: Batches, loss: Loss = cross_entropy, **more: Any) -> Scoring:
    weights = prunable_weights(model)
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    return Scoring(model, weights, dense, lambda: batches, loss, 3, (1, 1), lambda: batches[0][0][:1], **more)


def score(name: str, scoring: Scoring, **options: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = CRITERIA[name].make(scoring, **options)
    return found


def linear(inputs: int, outputs: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=False).double()


def regression(count: int, inputs: int, batches: int = 1) -> Batches:
    source = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    return [(draw(count, inputs), draw(count, 1)) for _ in range(batches)]


def rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[0], -1)


# --- GraSP ----------------------------------------------------------------------------------------------------------


def test_grasp_on_a_quadratic_is_w_times_the_sums_of_hessians_and_gradients() -> None:
    model, batches = linear(6), regression(9, 6, batches=3)
    found = score("grasp", given(model, batches, half_squares), temperature=2.0)["weight"]
    w = model.get_parameter("weight").detach()[0]
    hessian = torch.stack([x.T @ x / len(x) / 4 for x, _ in batches]).sum(0)
    gradient = torch.stack([((x @ w / 2 - y[:, 0]) @ x) / len(x) / 2 for x, y in batches]).sum(0)
    torch.testing.assert_close(found[0], w * (hessian @ gradient), rtol=1e-10, atol=1e-14)


def test_grasp_of_halves_is_grasp_of_the_halves_as_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
    x, y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
    whole = score("grasp", given(model, [(x, y)]), temperature=200.0, halves=True)
    parts = score("grasp", given(model, [(x[:4], y[:4]), (x[4:], y[4:])]), temperature=200.0)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_grasp_keeps_what_the_paper_keeps() -> None:
    """The paper removes the largest S = -w ⊙ Hg."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))
    batches: Batches = [(torch.randn(20, 8), torch.arange(20) % 3)]
    weights = list(prunable_weights(model).values())
    slopes = torch.autograd.grad(cross_entropy(model(batches[0][0]) / 200, batches[0][1]), weights, create_graph=True)
    product = torch.stack([(s.detach() * s).sum() for s in slopes]).sum()
    products = torch.autograd.grad(product, weights)
    removal = torch.cat([(-w.detach() * h).flatten() for w, h in zip(weights, products, strict=True)])
    masks = masked(model, "grasp", "0.75", batches)
    removed = torch.cat([~mask.flatten() for mask in masks.values()])
    assert float(removal[removed].min()) > float(removal[~removed].max())


def masked(model: nn.Module, criterion: Any, sparsity: str, batches: Batches, **block: Any) -> MaskSet:
    plain = {"iterations": 1, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy"}
    whole = {
        "at": "end",
        "scope": "global",
        "granularity": "weight",
        **block,
        "criterion": canonical(CRITERIA, criterion),
    }
    whole["granularity"] = canonical(GRANULARITIES, whole["granularity"])
    whole["score"] = {**plain, "mode": "train", **block.get("score", {})}
    scoring_data = ScoringData(lambda _: batches, None, 3, 1)
    return find_mask(model, MaskRule.of(Mask.of(whole)), 1 - Decimal(sparsity), None, scoring_data)


def canonical(axis: AnyAxis, written: Any) -> Any:
    """A value as written, read with its defaults."""
    told = Reading()
    found = Value(axis).read(written, "x", told)
    assert told.problems == []
    return found


# --- second order ---------------------------------------------------------------------------------------------------


def test_obs_is_the_least_rise_of_a_quadratic_when_a_weight_goes() -> None:
    """Of E(δ) = δᵀHδ/2, over all δ with δ_q = -w_q: solved by elimination, without an inverse."""
    model, batches = linear(7), regression(40, 7)
    x = batches[0][0]
    # The gradient of every example is its input, so that the Fisher matrix is E[x xᵀ].
    found = score("obs", given(model, batches, lambda out, _: out.sum()), block=7, damping=0.1, each="example")[
        "weight"
    ]
    hessian = x.T @ x / len(x) + 0.1 * torch.eye(7, dtype=torch.float64)
    w = model.get_parameter("weight").detach()[0]
    for q in range(7):
        rest = [i for i in range(7) if i != q]
        others = torch.linalg.solve(hessian[rest][:, rest], hessian[rest, q] * w[q])
        step = torch.zeros(7, dtype=torch.float64)
        step[rest], step[q] = others, -w[q]
        rise = step @ hessian @ step / 2
        torch.testing.assert_close(found[0, q], rise, rtol=1e-10, atol=0)


def test_obs_blocks_do_not_look_at_each_other_and_the_last_may_be_short() -> None:
    model, batches = linear(7), regression(40, 7)
    scoring = given(model, batches, lambda out, _: out.sum())
    found = score("obs", scoring, block=3, damping=0.1, each="example")["weight"][0]
    for first, last in ((0, 3), (3, 6), (6, 7)):
        part = linear(last - first)
        with torch.no_grad():
            part.get_parameter("weight").copy_(model.get_parameter("weight")[:, first:last])
        some: Batches = [(x[:, first:last], y) for x, y in batches]
        alone = score("obs", given(part, some, lambda out, _: out.sum()), block=9, damping=0.1, each="example")
        torch.testing.assert_close(found[first:last], alone["weight"][0], rtol=1e-10, atol=0)


def test_the_gradients_of_examples_are_the_same_one_by_one_and_in_their_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).double()
    batches: Batches = [(torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.arange(5) % 3)]
    model(batches[0][0])
    model.eval()
    alone = list(sample_gradients(given(model, batches), "example"))
    x, y = batches[0]
    for index, (found, _) in enumerate(alone):
        loss = nn.functional.cross_entropy(model(x), y, reduction="none")[index]
        wanted = torch.autograd.grad(loss, list(prunable_weights(model).values()))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)
    assert len(list(sample_gradients(given(model.train(), batches), "example"))) == 5


def test_hessian_trace_of_a_group_is_its_formula_where_the_hessian_is_diagonal() -> None:
    """With a diagonal Hessian every draw of signs gives the diagonal exactly."""
    model = linear(4, 3)
    batches: Batches = [(torch.eye(4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(4, 3))]
    scoring = given(model, batches, lambda out, target: (out - target).square().sum() / 2, split=rows)
    found = score("hessian-trace", scoring, draws=2)["weight"]
    trace = 1.0 + 4.0 + 9.0 + 16.0
    norms = model.get_parameter("weight").detach().square().sum(1)
    torch.testing.assert_close(rows(found).sum(1), trace / (2 * 4) * norms, rtol=1e-10, atol=0)


def test_taylor_is_the_change_of_a_quadratic_when_a_group_goes() -> None:
    """L = (w·x)²/2 summed over single examples of one number each: h = g² / (w x)² · x² makes no cross terms."""
    model = nn.Linear(1, 1, bias=False).double()
    batches: Batches = [(torch.tensor([[2.0]], dtype=torch.float64), torch.zeros(1, 1))]
    w = float(model.get_parameter("weight").detach())
    scoring = given(model, batches, lambda out, _: out.sum())
    first = score("taylor", scoring, order="first", group="abs-sum", each="example")["weight"]
    second = score("taylor", scoring, order="second", group="abs-sum", each="example")["weight"]
    assert float(first.detach()) == pytest.approx(2.0 * w)
    assert float(second.detach()) == pytest.approx(2.0 * w - 4.0 * w * w / 2)


@pytest.mark.parametrize("group", ["abs-sum", "sum-abs"])
def test_taylor_of_filters_is_either_form(group: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 2), nn.Flatten(), nn.Linear(5, 3))
    batches: Batches = [(torch.randn(6, 1, 4, 4), torch.arange(6) % 3) for _ in range(2)]
    loss = torch.stack([cross_entropy(model(x), y) for x, y in batches]).mean()
    weights = prunable_weights(model)
    slopes = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    criterion = {"name": "taylor", "group": group}
    masks = masked(model, criterion, "0.5", batches, granularity="filter", scope="uniform")
    for name in ("0.weight", "2.weight"):
        products = rows(weights[name].detach() * slopes[name])
        sums = products.sum(1).abs() if group == "abs-sum" else products.abs().sum(1)
        count = int(rows(masks[name]).any(1).sum())
        assert rows(masks[name]).any(1).nonzero().flatten().tolist() == sorted(sums.topk(count).indices.tolist())


@pytest.mark.parametrize("group", ["square-sum", "sum-square"])
@pytest.mark.parametrize("order", ["first", "second"])
def test_taylor_squares_in_every_batch_as_the_released_code_does(group: str, order: str) -> None:
    """NVlabs/Taylor_pruning, pruning_engine.py: the squares of every batch are added up."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 5, 2), nn.Flatten(), nn.Linear(5, 3))
    batches: Batches = [(torch.randn(4, 1, 4, 4), torch.randint(3, (4,))) for _ in range(5)]
    weights = prunable_weights(model)
    wanted = {name: torch.zeros(weight.shape[0], dtype=torch.float64) for name, weight in weights.items()}
    for x, y in batches:
        slopes = torch.autograd.grad(cross_entropy(model(x), y), list(weights.values()))
        for (name, weight), slope in zip(weights.items(), slopes, strict=True):
            terms = weight.detach() * slope
            if order == "second":  # h of this batch
                terms = terms - slope.square() * weight.detach().square() / 2
            own = rows(terms).double()
            wanted[name] += own.sum(1).square() if group == "square-sum" else own.square().sum(1)
    for scope in ("uniform", "global"):
        mask = prune_search.find_mask(
            model, "taylor", 0.5, scope, "filter", batches=batches, order=order, group=group, each="batch"
        )
        kept = {name: rows(mask[name]).any(1) for name in ("0.weight", "2.weight")}
        pools = [list(kept)] if scope == "global" else [[name] for name in kept]
        for pool in pools:
            scores, chosen = torch.cat([wanted[n] for n in pool]), torch.cat([kept[n] for n in pool])
            assert scores[chosen].min() > scores[~chosen].max()
    single = prune_search.score("taylor", model, batches[:1], order=order, group=group, each="batch")
    plain = prune_search.score("taylor", model, batches[:1], order=order, group="abs-sum", each="batch")
    for name, score in plain.items():
        torch.testing.assert_close(single[name].sqrt(), score.double(), rtol=1e-5, atol=1e-12)


def test_taylor_of_coupled_channels_is_the_mean_over_batches_too() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    batches: Batches = [(torch.randn(4, 5), torch.randint(3, (4,))) for _ in range(5)]
    wanted = torch.zeros(6, dtype=torch.float64)
    for x, y in batches:
        first, second = model.get_parameter("0.weight"), model.get_parameter("2.weight")
        slopes = torch.autograd.grad(cross_entropy(model(x), y), [first, second])
        parts = ((first * slopes[0]).detach().double().sum(1), (second * slopes[1]).detach().double().sum(0))
        wanted += (parts[0].square() + parts[1].square()) / 2 / len(batches)
    mask = prune_search.find_mask(model, "taylor", 0.5, granularity="channel", batches=batches)
    assert mask["0.weight"].any(1).nonzero().flatten().tolist() == sorted(wanted.topk(3).indices.tolist())
    scores = prune_search.group_scores(
        model, "taylor", batches[0][0], batches=batches, convention="papers", scale="none"
    )
    torch.testing.assert_close(scores["0.weight"], wanted, rtol=1e-4, atol=0)


# --- weights alone --------------------------------------------------------------------------------------------------


def test_the_largest_weight_of_every_layer_has_the_lamp_score_one() -> None:
    torch.manual_seed(0)
    for weights in (torch.randn(50, 1), torch.randn(7, 9) * 100, torch.tensor([[2.0], [2.0], [1.0], [0.0]])):
        found = REDUCTIONS["lamp"](weights)
        norms = weights.square().sum(1)
        wanted = [float(n / norms[norms >= n].sum()) if n > 0 else 0.0 for n in norms]
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=0)
    assert float(REDUCTIONS["lamp"](torch.randn(30, 4)).max()) == 1.0


def test_the_filter_in_the_middle_goes_first() -> None:
    filters = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [30.0, 40.0]])
    assert REDUCTIONS["distances"](filters).tolist() == [65.0, 55.0, 55.0, 135.0]


def test_the_norm_behind_each_convolution_is_found_by_its_data() -> None:
    torch.manual_seed(0)
    model = ResNet(1, 3, blocks=1, width=2, projection=True, scale=1.0)
    with torch.no_grad():
        for index, norm in enumerate(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.copy_(torch.arange(1.0, norm.num_features + 1) * -(index + 1))
    found = score("batchnorm-scale", given(model, [(torch.zeros(2, 1, 8, 8), torch.zeros(2))]))
    modules = dict(model.named_modules())
    for name, values in found.items():
        layer = name.removesuffix(".weight")
        behind = layer.replace("conv", "bn").replace("shortcut.0", "shortcut.1")
        if layer == "fc":
            assert bool((values > max(float(v.max()) for n, v in found.items() if n != name)).all())
            continue
        wanted = modules[behind].get_parameter("weight").detach().abs()
        assert torch.equal(rows(values), wanted.unsqueeze(1).expand_as(rows(values)))


def test_a_network_without_batch_norms_has_no_scales() -> None:
    with pytest.raises(ScoreError, match="batch norm"):
        score("batchnorm-scale", given(nn.Linear(2, 2), [(torch.zeros(2, 2), torch.zeros(2))]))


# --- Wanda ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", ["0.5", "0.37", "0.9"])
def test_wanda_removes_in_every_row_the_lowest_products(sparsity: str) -> None:
    """As the paper's figure 2 has it: the ⌊n·s⌋ lowest of a row, for each row."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 9), nn.ReLU(), nn.Linear(9, 4))
    batches: Batches = [(torch.randn(8, 13), torch.zeros(8)) for _ in range(3)]
    masks = masked(model, "wanda", sparsity, batches, rounding="floor-drop")
    inputs = torch.cat([x for x, _ in batches])
    with torch.no_grad():
        met = {"0.weight": inputs, "2.weight": model[1](model[0](inputs))}
    for name, seen in met.items():
        products = model.get_parameter(name).detach().abs() * seen.norm(p=2, dim=0)
        drop = int(Decimal(sparsity) * products.shape[1])
        for row, kept in zip(products, masks[name], strict=True):
            assert (~kept).nonzero().flatten().tolist() == sorted(row.argsort()[:drop].tolist())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        nn.Conv2d(4, 4, (3, 2), padding=1, padding_mode="reflect", bias=False),
        nn.Conv1d(4, 5, 3, padding="same"),
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        nn.Conv3d(4, 2, 2),
        nn.Linear(7, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_wandas_input_norms_are_those_of_what_each_weight_is_multiplied_with(layer: nn.Module) -> None:
    """Each weight alone: a layer of zeros but for one 1 puts out exactly the numbers that this weight meets."""
    spatial = {nn.Conv1d: (9,), nn.Conv3d: (4, 4, 4), nn.Linear: ()}.get(type(layer), (7, 7))
    shape = (3, 5, 7) if isinstance(layer, nn.Linear) else (3, 4, *spatial)
    torch.manual_seed(0)
    batches: Batches = [(torch.randn(shape), torch.zeros(3)), (torch.randn(shape), torch.zeros(3))]
    weight = layer.get_parameter("weight")
    with torch.no_grad():
        if layer.bias is not None:
            layer.get_parameter("bias").zero_()
        weight.fill_(1.0)
        found = score("wanda", given(layer, batches), group="row")["weight"].flatten()
        for index in range(weight.numel()):
            weight.zero_()
            weight.view(-1)[index] = 1.0
            outputs = torch.cat([layer(x).flatten() for x, _ in batches])
            assert float(found[index]) == pytest.approx(float(outputs.norm()), rel=1e-5)


def test_rows_take_over_the_share_that_a_scope_gives_their_layer() -> None:
    layers = {"a": ((3, 5), 15), "b": ((2, 4, 1, 1), 8)}
    assert by_row([Pool(("a", "b"), 12)], layers, Decimal("0.5")) == [Pool(("a",), 3, 3), Pool(("b",), 2, 2)]
    drop = by_row([Pool(("a", "b"), 12)], layers, Decimal("0.5"), "floor-drop")
    assert drop == [Pool(("a",), 3, 3), Pool(("b",), 2, 2)]
    keep = by_row([Pool(("a", "b"), 11)], layers, Decimal("0.5"), "floor-keep")
    assert keep == [Pool(("a",), 2, 3), Pool(("b",), 2, 2)]
    # A layer with another share than asked, and one whose units are filters.
    assert by_row([Pool(("a",), 9)], layers, Decimal("0.5")) == [Pool(("a",), 3, 3)]
    assert by_row([Pool(("a",), 2)], {"a": ((3, 5), 3)}, Decimal("0.5")) == [Pool(("a",), 2)]


# --- ThiNet ---------------------------------------------------------------------------------------------------------


def test_thinet_removes_first_what_the_next_layer_misses_least() -> None:
    """Channels of other sizes, one pair that cancels out: together the pair is missed less than the smallest alone."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.eye(4)[[0, 0, 1, 2]])
        model.get_parameter("1.weight").copy_(torch.tensor([[1.0, -1.0, 5.0, 3.0]] * 3))
    batches: Batches = [(torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(200))]
    found = score("output-reconstruction", given(model, batches), samples=500)["1.weight"]
    # The pair (0, 1) adds up to nothing: after one of them has gone, the other goes for nothing.
    order = found[0].argsort().tolist()
    assert set(order[:2]) == {0, 1}
    assert order[2:] == [3, 2]
    assert torch.equal(found, found[:1].expand(3, 4))
    assert sorted(found[0].tolist()) == [0.25, 0.5, 0.75, 1.0]


def test_channels_go_by_what_reads_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    batches: Batches = [(torch.randn(8, 1, 8, 8), torch.arange(8) % 3)]
    scores = score("output-reconstruction", given(model, batches), samples=80)
    masks = masked(
        model, {"name": "output-reconstruction", "samples": 80}, "0.5", batches, granularity="channel", scope="uniform"
    )
    for maker, reader, kept in (("0.weight", "2.weight", 3), ("2.weight", "6.weight", 2)):
        ranks = scores[reader].flatten(2).mean(2)[0] if scores[reader].dim() > 2 else scores[reader][0]
        assert rows(masks[maker]).any(1).nonzero().flatten().tolist() == sorted(ranks.topk(kept).indices.tolist())


# --- normalizations, movement ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalization_keeps_the_order_and_takes_away_the_size(name: str) -> None:
    torch.manual_seed(0)
    scores = torch.randn(40).abs().double()
    make = NORMALIZATIONS[name].make
    assert torch.equal(make(scores).argsort(), scores.argsort())
    assert bool(torch.isfinite(make(torch.zeros(5))).all())
    if name != "none":
        torch.testing.assert_close(make(1000 * scores), make(scores))
        sizes = {"sum": 1, "mean": 1, "max": float("inf"), "l2": 2, "standard": 2, "rank": float("inf")}
        size = float(torch.linalg.vector_norm(make(scores), sizes[name]))
        wanted = {"mean": 40.0, "standard": 40.0**0.5}.get(name, 1.0)
        assert size == pytest.approx(wanted)


def test_with_ranks_layers_of_other_sizes_are_pruned_alike() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))
    with torch.no_grad():
        model.get_parameter("1.weight").mul_(1e4)
    plain = masked(model, "magnitude", "0.5", [])
    ranked = masked(model, "magnitude", "0.5", [], score={"normalization": "rank"})
    assert [int(mask.sum()) for mask in plain.values()] == [0, 100]
    assert [int(mask.sum()) for mask in ranked.values()] == [50, 50]


def test_movement_at_rate_zero_is_minus_w_times_the_summed_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    batches: Batches = [(torch.randn(6, 4), torch.arange(6) % 3) for _ in range(3)]
    found = score("movement", given(model, batches), rate=0.0)
    loss = torch.stack([cross_entropy(model(x), y) for x, y in batches]).sum()
    weights = prunable_weights(model)
    for (name, weight), slope in zip(weights.items(), torch.autograd.grad(loss, list(weights.values())), strict=True):
        torch.testing.assert_close(found[name], -weight.detach() * slope)
