"""f1: exact counts in every round and iteration, and a network that is left as it was."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.pruning.mask.counts import keep_count, keep_share
from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet, ScoreError
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Batches
from prune_search.pruning.mask.variants import with_control
from prune_search.recipe.blocks import Mask, Sparsity
from prune_search.tasks.network import prunable_weights

SCORE = {"iterations": 1, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy", "mode": "train"}
OUTPUT = "8.weight"


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(6, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Identity(),
        nn.Linear(4 * 16, 5),
    )


def rule(criterion: Any = "magnitude", score: Mapping[str, Any] | None = None, **block: Any) -> MaskRule:
    whole = {"at": "end", "criterion": criterion, "scope": "global", "granularity": "weight", **block}
    return MaskRule.of(Mask.of({**whole, "score": {**SCORE, **(score or {})}}))


def batches(iteration: int) -> Batches:
    source = torch.Generator().manual_seed(iteration)
    return [(torch.randn(8, 1, 8, 8, generator=source), torch.randint(5, (8,), generator=source)) for _ in range(2)]


def found(model: nn.Module, asked: MaskRule, sparsity: str, previous: tuple[MaskSet, Decimal] | None = None) -> MaskSet:
    return find_mask(model, asked, 1 - Decimal(sparsity), previous, ScoringData(batches, OUTPUT, 5, 1))


def kept(masks: MaskSet) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


def total(model: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_weights(model).values())


@pytest.mark.parametrize("sparsity", ["0", "0.123", "0.5", "0.9", "0.99"])
@pytest.mark.parametrize("scope", ["global", "er", "erk"])
@pytest.mark.parametrize("criterion", ["magnitude", "random", "snip"])
def test_exactly_the_asked_count_is_kept(criterion: str, scope: str, sparsity: str) -> None:
    model = network()
    masks = found(model, rule(criterion, scope=scope), sparsity)
    wanted = keep_count(total(model), 1 - Decimal(sparsity))
    receipt = masks.receipt()
    assert kept(masks) == receipt.units_kept == receipt.units_asked == wanted
    assert receipt.asked == float(sparsity)
    assert receipt.reached == 1 - wanted / total(model)


def test_magnitude_keeps_the_largest_weights_of_the_whole_network() -> None:
    model = network()
    masks = found(model, rule(), "0.8")
    flat = torch.cat([weight.detach().abs().flatten() for weight in prunable_weights(model).values()])
    mask = torch.cat([mask.flatten() for mask in masks.values()])
    assert float(flat[mask].min()) > float(flat[~mask].max())


def test_filters_go_whole_by_their_l1_norm_and_the_output_layer_stays() -> None:
    model = network()
    masks = found(model, rule("l1", granularity="filter", scope="uniform"), "0.5")
    assert bool(masks[OUTPUT].all())
    for name, count in (("0.weight", 3), ("4.weight", 2)):
        norms = model.get_parameter(name).detach().abs().flatten(1).sum(1)
        filters = masks[name].flatten(1)
        assert torch.equal(filters.any(1), filters.all(1))
        assert filters.any(1).nonzero().flatten().tolist() == sorted(norms.topk(count).indices.tolist())
    receipt = masks.receipt()
    assert {layer.name: (layer.units, layer.units_kept) for layer in receipt.layers} == {
        "0.weight": (6, 3),
        "4.weight": (4, 2),
        OUTPUT: (0, 0),
    }
    assert (receipt.asked, receipt.units_asked, receipt.units_kept) == (0.5, 5, 5)
    assert receipt.reached == 1 - (27 + 108 + 320) / (54 + 216 + 320)


def test_a_criterion_that_keeps_everything_says_so() -> None:
    masks = found(network(), rule("all"), "0.9")
    assert masks.sparsity() == 0.0
    assert masks.receipt().asked == 0.0


@pytest.mark.parametrize("scope", ["global", "uniform", "erk"])
def test_what_an_earlier_round_removed_stays_removed_though_its_weight_has_grown(scope: str) -> None:
    model, previous = network(), None
    for number in range(1, 5):
        share = keep_share(Sparsity.of({"per_round": 0.4}), number, 4)
        masks = find_mask(model, rule(scope=scope), share, previous, ScoringData(batches, OUTPUT, 5, number))
        if previous is not None:
            assert all(not bool((masks[name] & ~previous[0][name]).any()) for name in masks)
        if scope != "uniform":
            assert kept(masks) == keep_count(total(model), share)
        previous = (masks, share)
        with torch.no_grad():
            for name, weight in prunable_weights(model).items():
                weight.copy_(torch.where(masks[name], 0.01, 9.0))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_the_network_is_left_as_it_was(mode: str, iterations: int) -> None:
    model = network(dropout=0.3)
    model.train()
    model[1].eval()  # type: ignore[index]
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    found(model, rule("snip", {"iterations": iterations, "mode": mode}), "0.9")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_the_network_is_left_as_it_was_after_an_error_too() -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter(OUTPUT)[0, 0] = float("nan")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ScoreError, match=OUTPUT.replace(".", r"\.")):
        found(model, rule(scope="uniform"), "0.5")
    with pytest.raises(ScoreError):
        found(model, rule("snip"), "0.5")
    assert all(torch.equal(before[name].nan_to_num(9), v.nan_to_num(9)) for name, v in model.state_dict().items())


def test_layers_that_draw_depend_on_the_seed_alone_and_move_no_draw_outside() -> None:
    model = network(dropout=0.5)
    torch.manual_seed(0)
    first = found(model, rule("snip"), "0.9")
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(3))
    torch.manual_seed(77)
    assert found(model, rule("snip"), "0.9").sha256 == first.sha256
    model[3].p = 0.0  # type: ignore[index]
    assert found(model, rule("snip"), "0.9").sha256 != first.sha256


def test_nested_iterations_only_remove_and_others_bring_back() -> None:
    model = network()
    score = {"iterations": 5, "nested": True}
    steps = [float(keep_share(Sparsity.of({"final": 0.95}), number, 5)) for number in range(1, 6)]
    seen: list[MaskSet] = []

    def watched(iteration: int) -> Batches:
        # Between two iterations the network's weights are w ⊙ c: the zeros show the mask.
        nonzero = {name: weight.detach() != 0 for name, weight in prunable_weights(model).items()}
        seen.append(MaskSet(nonzero))
        return batches(iteration)

    for nested in (True, False):
        seen.clear()
        asked = rule("snip", {**score, "nested": nested})
        last = find_mask(model, asked, Decimal("0.05"), None, ScoringData(watched, OUTPUT, 5, 1))
        seen.append(last)
        assert [kept(masks) for masks in seen[1:]] == [int(step * total(model) + 0.5) for step in steps]
        back = sum(int((b[n] & ~a[n]).sum()) for a, b in pairwise(seen[1:]) for n in a)
        assert (back == 0) is nested


def test_iterations_of_a_later_round_go_on_from_what_the_round_before_kept() -> None:
    model = network()
    first = found(model, rule("snip"), "0.5")
    seen: list[int] = []

    def watched(iteration: int) -> Batches:
        seen.append(sum(int((weight.detach() != 0).sum()) for weight in prunable_weights(model).values()))
        return batches(iteration)

    asked = rule("snip", {"iterations": 4})
    last = find_mask(model, asked, Decimal("0.03125"), (first, Decimal("0.5")), ScoringData(watched, OUTPUT, 5, 2))
    # From 1/2 to 1/32 in four equal factors.
    wanted = [keep_count(total(model), Decimal(1) / Decimal(part)) for part in (4, 8, 16, 32)]
    assert [*seen[1:], kept(last)] == wanted


def test_a_control_keeps_the_densities_of_the_mask_that_it_replaces() -> None:
    model = network()
    plain = found(model, rule("snip"), "0.9").receipt()
    for control in ("shuffle", "invert"):
        other = found(model, rule("snip", control=control), "0.9")
        assert other.receipt() == plain
    assert found(model, rule("snip", control="random"), "0.9").receipt().units_kept == plain.units_kept


def test_a_moved_mask_gets_its_control_in_units_of_the_granularity() -> None:
    model = network()
    asked = rule("l1", granularity="filter", scope="uniform", control="shuffle")
    moved = found(model, rule("l1", granularity="filter", scope="uniform"), "0.5")
    scoring_data = ScoringData(batches, OUTPUT, 4, 1)
    drawn = with_control(model, moved, asked, scoring_data)
    assert drawn.receipt() == moved.receipt()
    assert drawn.sha256 != moved.sha256
    assert bool(drawn[OUTPUT].all())
    assert all(torch.equal(m.flatten(1).any(1), m.flatten(1).all(1)) for m in drawn.values())
    assert with_control(model, moved, rule("l1"), scoring_data) is moved


def test_a_random_mask_depends_on_the_seed_and_the_round() -> None:
    model = network()
    drawn = {
        find_mask(model, rule("random"), Decimal("0.5"), None, ScoringData(batches, OUTPUT, seed, number)).sha256
        for seed, number in ((0, 1), (0, 2), (1, 1), (0, 1))
    }
    assert len(drawn) == 3
