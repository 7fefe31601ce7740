"""What must hold for whole trials on real data: rounds, rewinding, scores, densities, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import (
    EPOCH,
    RENDA,
    SetupOf,
    bench_total,
    blocks,
    gradual,
    hashes,
    kept,
    model_part,
    renda,
    rounds,
    same_bits,
    scored,
)
from torch import Tensor, nn

from prune_search.pruning.mask import finder
from prune_search.pruning.mask.counts import keep_count, keep_share
from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Batches, Scoring
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.blocks import Sparsity
from prune_search.storage.tensors import save_tensors
from prune_search.tasks.network import prunable_weights
from prune_search.trial.run import run_trial
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup

# --- rounds and rewinding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k2", ["0it", "5it", "end"])
def test_masks_are_nested_over_rounds_and_the_weights_are_those_of_k2_masked(setup_of: SetupOf, k2: str) -> None:
    retrain = {"until": "end", "clock": "0it" if k2 == "end" else k2}
    setup = setup_of(blocks("lottery-ticket", weights={"at": k2}, rounds=4, retrain=retrain))
    first, chain = rounds(setup)
    step = setup.timeline.k2 or 0
    before: MaskSet | None = None
    for item in chain:
        at_k2 = item.source.end() if k2 == "end" else first.at(step)
        source = model_part(at_k2.tensors)
        start, masks = model_part(item.retraining.at(0).tensors), item.masks
        assert kept(masks) == keep_count(bench_total(setup), Decimal("0.8") ** item.number)
        for name, tensor in source.items():
            masked = tensor.masked_fill(~masks[name], 0.0) if name in masks else tensor
            assert same_bits(start[name], masked)
        if before is not None:
            assert all(not bool((masks[name] & ~before[name]).any()) for name in masks)
            assert masks.sha256 != before.sha256
        before = masks
        assert item.masks.sha256 == item.found.sha256


def test_each_round_s_mask_is_of_the_largest_weights_that_the_round_before_trained(setup_of: SetupOf) -> None:
    _, chain = rounds(setup_of(blocks("lottery-ticket", rounds=2)))
    trained, masks = model_part(chain[0].retraining.end().tensors), chain[1].masks
    alive = torch.cat([trained[name][chain[0].masks[name]].abs() for name in masks])
    chosen = torch.cat([masks[name][chain[0].masks[name]] for name in masks])
    assert float(alive[chosen].min()) >= float(alive[~chosen].max())


def test_random_masks_are_nested_over_rounds_too(setup_of: SetupOf) -> None:
    """Their scores do not show what an earlier round removed."""
    _, chain = rounds(setup_of(blocks("lottery-ticket", mask={"criterion": "random"}, rounds=3)))
    for before, after in pairwise(chain):
        assert all(not bool((after.masks[name] & ~before.masks[name]).any()) for name in after.masks)
        assert kept(after.masks) < kept(before.masks)


@pytest.mark.parametrize(("k2", "momentum"), [("0it", 0.9), ("7it", 0.0)])
def test_rewound_with_nothing_pruned_the_retraining_is_the_training(
    setup_of: SetupOf, k2: str, momentum: float
) -> None:
    """Weights, data order and rate go on where they were; the momentum, which starts at zero, is none or at 0."""
    raw = blocks("lottery-ticket", mask={"sparsity": 0}, weights={"at": k2}, retrain={"clock": k2}, rounds=1, conv=True)
    raw["train"] = {**raw["train"], "steps": "2ep", "optimizer": {"momentum": momentum}}
    first, (item,) = rounds(setup_of(raw))
    trained, retrained = model_part(first.end().tensors), model_part(item.retraining.end().tensors)
    assert all(torch.equal(trained[name], retrained[name]) for name in trained)


def test_renda_s_three_are_one_at_no_retraining_steps_and_three_after_some(setup_of: SetupOf) -> None:
    assert len({hashes(run_trial(setup_of(renda(preset, 0)), None)) for preset in RENDA}) == 1
    some = [run_trial(setup_of(renda(preset, 6)), None) for preset in RENDA]
    assert len({result.masks.sha256 for result in some}) == 1
    assert len({result.weights_sha256 for result in some}) == 3


def test_renda_s_three_learn_at_the_rates_that_the_paper_says(setup_of: SetupOf) -> None:
    lines = {preset: setup_of(renda(preset, 12)).timeline for preset in RENDA}
    rates = {preset: [line.rate(step) for step in range(line.retrain_steps)] for preset, line in lines.items()}
    drops = [0.1] * 3 + [0.01] * 5 + [0.001] * 4  # steps 6 … 17 of 18, with drops at 9 and 14
    assert rates["weight-rewinding"] == rates["learning-rate-rewinding"] == pytest.approx(drops)
    assert rates["fine-tune"] == pytest.approx([0.001] * 12)


def test_weight_rewinding_by_the_whole_training_is_a_lottery_ticket_of_one_round(setup_of: SetupOf) -> None:
    ticket = blocks("lottery-ticket", mask={"sparsity": 0.9}, rounds=1)
    whole = renda("weight-rewinding", 2 * EPOCH)
    assert hashes(run_trial(setup_of(ticket), None)) == hashes(run_trial(setup_of(whole), None))


def test_given_weights_are_fine_tuned_as_if_they_had_just_been_trained(setup_of: SetupOf, tmp_path: Path) -> None:
    whole = blocks("fine-tune", conv=True, retrain={"steps": "5it"})
    setup = setup_of(whole)
    first, _ = rounds(setup)
    file = tmp_path / "trained.safetensors"
    save_tensors(file, model_part(first.end().tensors))
    given = {**whole, "train": {**whole["train"], "from": str(file)}}
    assert hashes(run_trial(setup_of(given), tmp_path / "a")) == hashes(run_trial(setup_of(whole), None))


# --- scores ---------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


def gradient_of_c(
    setup: TrialSetup, dense: Mapping[str, Tensor], c: Mapping[str, Tensor], batch: Any
) -> dict[str, Tensor]:
    """dL/dc of the network whose weights are c ⊙ w, c being variables of their own."""
    scales = {name: mask.float().requires_grad_() for name, mask in c.items()}
    scaled = {name: scale * dense[name] for name, scale in scales.items()}
    logits = torch.func.functional_call(setup.model, scaled, (batch[0],))
    found = torch.autograd.grad(cross_entropy(logits, batch[1]), list(scales.values()))
    return dict(zip(scales, found, strict=True))


@pytest.mark.parametrize("masked", [False, True])
def test_the_sensitivity_to_a_connection_is_w_times_its_gradient(setup_of: SetupOf, masked: bool) -> None:
    setup = setup_of(blocks("snip"))
    setup.model.train()
    weights = prunable_weights(setup.model)
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    c = {
        name: torch.rand(w.shape) < 0.3 if masked else torch.ones(w.shape, dtype=torch.bool)
        for name, w in dense.items()
    }
    (batch,) = scoring_data(setup, 1).batches(1)
    wanted = gradient_of_c(setup, dense, c, batch)
    MaskSet(c).apply(setup.model)
    scoring = Scoring(setup.model, weights, dense, lambda: [batch], cross_entropy, 0, (1, 1))
    found = CRITERIA["snip"].make(scoring)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any(bool((wanted[name][~c[name]] != 0).any()) for name in wanted) is masked


def slow_force(setup: TrialSetup, sparsity: str, iterations: int, nested: bool) -> list[Tensor]:
    """de Jorge et al. 2021, algorithm 1, over one flat vector: the mask after every step."""
    dense = {name: weight.detach().clone() for name, weight in prunable_weights(setup.model).items()}
    sizes = [weight.numel() for weight in dense.values()]
    mask, found = torch.ones(sum(sizes), dtype=torch.bool), []
    for t in range(1, iterations + 1):
        parts = mask.split(sizes)  # type: ignore[no-untyped-call]
        c = {name: part.view(dense[name].shape) for name, part in zip(dense, parts, strict=True)}
        (batch,) = scoring_data(setup, 1).batches(t)
        sensitivity = torch.cat([g.abs().flatten() for g in gradient_of_c(setup, dense, c, batch).values()]).double()
        if nested:
            sensitivity = sensitivity.masked_fill(~mask, -1.0)
        count = keep_count(len(mask), keep_share(Sparsity.of({"final": float(sparsity)}), t, iterations))
        mask = torch.zeros_like(mask)
        mask[sensitivity.sort(descending=True, stable=True).indices[:count]] = True
        found.append(mask)
    return found


def flat(masks: MaskSet) -> Tensor:
    return torch.cat([mask.flatten() for mask in masks.values()])


def test_at_one_iteration_force_and_iterative_snip_are_snip(setup_of: SetupOf) -> None:
    found = {
        run_trial(setup_of(scored(preset, 1)), None).masks.sha256 for preset in ("force", "iterative-snip", "snip")
    }
    assert len(found) == 1
    setup = setup_of(scored("snip", 1))
    setup.model.train()
    assert torch.equal(
        slow_force(setup, "0.95", 1, False)[-1], flat(run_trial(setup_of(scored("snip", 1)), None).masks)
    )


@pytest.mark.parametrize("preset", ["force", "iterative-snip"])
def test_over_iterations_force_brings_back_what_iterative_snip_does_not(setup_of: SetupOf, preset: str) -> None:
    setup = setup_of(scored(preset, 8))
    setup.model.train()
    slow = slow_force(setup, "0.95", 8, preset == "iterative-snip")
    assert torch.equal(slow[-1], flat(run_trial(setup_of(scored(preset, 8)), None).masks))
    returns = sum(int((after & ~before).sum()) for before, after in pairwise(slow))
    assert (returns > 0) is (preset == "force")


def test_the_masks_between_iterations_are_the_slow_ones_too(setup_of: SetupOf) -> None:
    for preset in ("force", "iterative-snip"):
        setup = setup_of(scored(preset, 6))
        seen: list[Tensor] = []
        weights = prunable_weights(setup.model)

        def batches(
            iteration: int, setup: TrialSetup = setup, seen: list[Any] = seen, weights: Any = weights
        ) -> Batches:
            seen.append(torch.cat([(weight.detach() != 0).flatten() for weight in weights.values()]))
            return scoring_data(setup, 1).batches(iteration)

        shown = ScoringData(batches, setup.output_layer, setup.recipe.seed, 1)
        last = find_mask(setup.model, MaskRule.of(setup.recipe.mask), Decimal("0.05"), None, shown)
        setup.model.train()
        slow = slow_force(setup, "0.95", 6, preset != "force")
        assert [torch.equal(a, b) for a, b in zip([*seen[1:], flat(last)], slow, strict=True)] == [True] * 6


# --- gradual --------------------------------------------------------------------------------------------------------


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[MaskSet]:
    """Every mask that a keeper is given."""
    seen: list[MaskSet] = []
    real = MaskKeeper.set

    def watched(self: MaskKeeper, masks: MaskSet) -> None:
        seen.append(masks)
        real(self, masks)

    monkeypatch.setattr(MaskKeeper, "set", watched)
    return seen


@pytest.mark.parametrize("until", ["14it", "end", "100%"])
@pytest.mark.parametrize("scope", ["global", "erk"])
def test_gradual_masks_follow_the_cubic_path_exactly_and_are_nested(
    setup_of: SetupOf, moves: list[MaskSet], scope: str, until: str
) -> None:
    setup = setup_of(gradual(scope, until=until))
    result = run_trial(setup, None)
    end = 14 if until == "14it" else 18
    events = [2, 6, 10, 14] if end == 14 else [2, 6, 10, 14, 18]
    # Zhu & Gupta's eq. 1 in whole numbers: kept is N (1 - .9 (1 - (1 - t)³)), half up.
    total, span = bench_total(setup), end - 2
    wanted = [
        (2 * total * (10 * span**3 - 9 * (span**3 - (end - t) ** 3)) + 10 * span**3) // (2 * 10 * span**3)
        for t in events
    ]
    distinct = [masks for index, masks in enumerate(moves) if index == 0 or masks is not moves[index - 1]]
    assert [kept(masks) for masks in distinct] == [total, *wanted]
    assert wanted[0] == total
    assert all(not bool((after[name] & ~before[name]).any()) for before, after in pairwise(distinct) for name in after)
    assert result.receipt.units_asked == kept(result.masks) == keep_count(total, Decimal("0.1")) == wanted[-1]
    assert result.receipt.asked == 0.9
    assert all(bool((result.tensors[name][~mask] == 0).all()) for name, mask in result.masks.items())


def test_every_event_goes_on_from_the_share_of_the_event_before(
    setup_of: SetupOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Decimal, Decimal]] = []

    def watched(model: Any, rule: Any, share: Decimal, previous: tuple[MaskSet, Decimal], shown: Any) -> MaskSet:
        seen.append((previous[1], share))
        return find_mask(model, rule, share, previous, shown)

    setup = setup_of(gradual())
    monkeypatch.setattr(finder, "find_mask", watched)
    run_trial(setup, None)
    assert [before for before, _ in seen] == [Decimal(1), *(share for _, share in seen[:-1])]
    assert seen[-1][1] == Decimal("0.1")


def test_the_middle_of_a_cubic_path_to_ninety_percent_is_at_the_paper_s_78_75(
    setup_of: SetupOf, moves: list[MaskSet]
) -> None:
    setup = setup_of(gradual(**{"from": "0it", "until": "16it", "every": "8it"}))
    run_trial(setup, None)
    counts = sorted({kept(masks) for masks in moves}, reverse=True)
    assert counts == [keep_count(bench_total(setup), Decimal(share)) for share in ("1", "0.2125", "0.1")]


# --- densities and controls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["er", "erk"])
def test_a_random_network_has_the_densities_of_its_scope_and_the_exact_total(setup_of: SetupOf, scope: str) -> None:
    setup = setup_of(blocks("random", conv=True, mask={"scope": scope, "sparsity": 0.7}, retrain={"until": "end"}))
    result = run_trial(setup, None)
    assert kept(result.masks) == keep_count(bench_total(setup), Decimal("0.3"))
    shapes = {name: tuple(weight.shape) for name, weight in prunable_weights(setup.model).items()}
    sides = {name: shape if scope == "erk" else shape[:2] for name, shape in shapes.items()}
    raw = {name: sum(s) / torch.Size(s).numel() for name, s in sides.items()}
    free = {n: int(m.sum()) / m.numel() / raw[n] for n, m in result.masks.items() if not bool(m.all())}
    # Of the layers that are not full, the density over the raw one is the same ε but for one unit of rounding.
    slack = max(1 / (result.masks[name].numel() * raw[name]) for name in free)
    assert len(free) >= 2
    assert max(free.values()) - min(free.values()) <= 2 * slack


@pytest.mark.parametrize("control", ["shuffle", "invert", "random"])
def test_a_control_has_the_counts_of_the_mask_that_it_stands_for(setup_of: SetupOf, control: str) -> None:
    plain = run_trial(setup_of(blocks("lottery-ticket", rounds=2)), None)
    mask = {"control": control}
    other = run_trial(setup_of(blocks("lottery-ticket", rounds=2, mask=mask)), None)
    assert other.rounds[0].mask_sha256 == plain.rounds[0].mask_sha256
    assert other.masks.sha256 != plain.masks.sha256
    assert other.receipt.units_kept == plain.receipt.units_kept
    assert (other.receipt == plain.receipt) is (control != "random")


def test_the_control_of_a_moved_mask_is_static_and_trained_from_k2(setup_of: SetupOf, moves: list[MaskSet]) -> None:
    moved = run_trial(setup_of(gradual()), None)
    raw = gradual()
    raw["mask"]["control"] = "shuffle"
    moves.clear()
    setup = setup_of(raw)
    result = run_trial(setup, None)
    assert result.receipt == moved.receipt
    assert result.masks.sha256 != moved.masks.sha256
    last = moves[-1]
    assert last.sha256 == result.masks.sha256
    assert sum(masks.sha256 == last.sha256 for masks in moves) == len(moves) - 1 - max(
        index for index, masks in enumerate(moves) if masks.sha256 == moved.masks.sha256
    )
    _, (item,) = rounds(setup)
    assert item.controlled is not None
    start, w0 = model_part(item.controlled.at(0).tensors), model_part(setup.start)
    assert all(same_bits(start[n], w0[n].masked_fill(~m, 0.0)) for n, m in result.masks.items())


def test_shuffled_weights_of_snip_are_drawn_anew(setup_of: SetupOf) -> None:
    setup = setup_of(blocks("control-shuffle"))
    _, (item,) = rounds(setup)
    start, w0 = model_part(item.retraining.at(0).tensors), model_part(setup.start)
    for name, mask in item.masks.items():
        assert bool((start[name][mask] != w0[name][mask]).all())
        assert float(start[name][mask].std()) == pytest.approx(float(w0[name].std()), rel=0.6)
