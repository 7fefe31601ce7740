"""What must hold for whole trials on real data: small networks, few epochs, everything bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.counts import keep_count, keep_share
from prune_search.pruning.finding import Evidence, MaskRule, find_mask
from prune_search.pruning.keeper import MaskKeeper
from prune_search.pruning.masks import MaskSet
from prune_search.pruning.scoring import Batches, Scoring
from prune_search.pruning.transforms.penalties import GrowingHook, Penalty, Ramp
from prune_search.recipe.axes import CRITERIA
from prune_search.tasks.network import prunable_weights
from prune_search.training.stretch import MODEL, Steps, Vault, load_model
from prune_search.training.tensor_files import save_tensors
from prune_search.trial.bench import Bench
from prune_search.trial.chain import Round, rounds_of
from prune_search.trial.evidence import evidence
from prune_search.trial.result import Result
from prune_search.trial.run import run_bench

Blocks = dict[str, Any]
BenchOf = Callable[[Mapping[str, Any]], Bench]

EPOCH = 9  # 1,257 training examples in batches of 128
SMALL: Blocks = {"task": {"model": {"name": "mlp", "hidden": [20, 12]}, "seed": 3}, "train": {"steps": "2ep"}}
CONV: Blocks = {
    "task": {"model": {"name": "small-conv", "channels": [4, 6]}, "seed": 3},
    "train": {"steps": "1ep", "augment": {"name": "crop-flip", "pad": 1}},
}


def blocks(preset: str, **more: Any) -> Blocks:
    """A preset on a small network; `more` is merged into the blocks."""
    merged: Blocks = {"preset": preset, **(CONV if more.pop("conv", False) else SMALL)}
    return {**merged, **more}


def rounds(bench: Bench) -> tuple[Any, list[Round]]:
    return rounds_of(bench, Vault(None, Steps()))


def model_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(MODEL): value for key, value in tensors.items() if key.startswith(MODEL)}


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal with the sign of zeros."""
    return torch.equal(one, other) and torch.equal(torch.signbit(one), torch.signbit(other))


def hashes(result: Result) -> tuple[str, str]:
    return result.masks.sha256, result.weights_sha256


def kept(masks: Mapping[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


# --- rounds and rewinding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k2", ["0it", "5it", "end"])
def test_masks_are_nested_over_rounds_and_the_weights_are_those_of_k2_masked(bench_of: BenchOf, k2: str) -> None:
    retrain = {"until": "end", "clock": "0it" if k2 == "end" else k2}
    bench = bench_of(blocks("lottery-ticket", weights={"at": k2}, rounds=4, retrain=retrain))
    first, chain = rounds(bench)
    before: MaskSet | None = None
    for item in chain:
        at_k2 = item.source.end() if k2 == "end" else first.at(bench.timeline.k2)
        source = model_part(at_k2.tensors)
        start, masks = model_part(item.retraining.at(0).tensors), item.masks
        assert kept(masks) == keep_count(bench_total(bench), Decimal("0.8") ** item.number)
        for name, tensor in source.items():
            masked = tensor.masked_fill(~masks[name], 0.0) if name in masks else tensor
            assert same_bits(start[name], masked)
        if before is not None:
            assert all(not bool((masks[name] & ~before[name]).any()) for name in masks)
            assert masks.sha256 != before.sha256
        before = masks
        assert item.masks.sha256 == item.found.sha256


def bench_total(bench: Bench) -> int:
    return sum(weight.numel() for weight in prunable_weights(bench.model).values())


def test_each_round_s_mask_is_of_the_largest_weights_that_the_round_before_trained(bench_of: BenchOf) -> None:
    _, chain = rounds(bench_of(blocks("lottery-ticket", rounds=2)))
    trained, masks = model_part(chain[0].retraining.end().tensors), chain[1].masks
    alive = torch.cat([trained[name][chain[0].masks[name]].abs() for name in masks])
    chosen = torch.cat([masks[name][chain[0].masks[name]] for name in masks])
    assert float(alive[chosen].min()) >= float(alive[~chosen].max())


RENDA = {
    "fine-tune": ("end", {"clock": {"hold": "final"}}),
    "weight-rewinding": ("end-{}it", {"clock": "end-{}it"}),
    "learning-rate-rewinding": ("end", {"clock": "end-{}it"}),
}


def renda(preset: str, steps: int, **mask: Any) -> Blocks:
    at, retrain = RENDA[preset]
    clock = retrain["clock"]
    clock = clock.format(steps) if isinstance(clock, str) else clock
    return blocks(
        preset,
        mask={"sparsity": 0.9, **mask},
        weights={"at": at.format(steps)},
        retrain={"steps": f"{steps}it", "clock": clock},
        rounds=1,
    )


def test_renda_s_three_are_one_at_no_retraining_steps_and_three_after_some(bench_of: BenchOf) -> None:
    assert len({hashes(run_bench(bench_of(renda(preset, 0)), None)) for preset in RENDA}) == 1
    some = [run_bench(bench_of(renda(preset, 6)), None) for preset in RENDA]
    assert len({result.masks.sha256 for result in some}) == 1
    assert len({result.weights_sha256 for result in some}) == 3


def test_renda_s_three_learn_at_the_rates_that_the_paper_says(bench_of: BenchOf) -> None:
    lines = {preset: bench_of(renda(preset, 12)).timeline for preset in RENDA}
    rates = {preset: [line.rate(step) for step in range(line.retrain_steps)] for preset, line in lines.items()}
    drops = [0.1] * 3 + [0.01] * 5 + [0.001] * 4  # steps 6 … 17 of 18, with drops at 9 and 14
    assert rates["weight-rewinding"] == rates["learning-rate-rewinding"] == pytest.approx(drops)
    assert rates["fine-tune"] == pytest.approx([0.001] * 12)


def test_weight_rewinding_by_the_whole_training_is_a_lottery_ticket_of_one_round(bench_of: BenchOf) -> None:
    ticket = blocks("lottery-ticket", mask={"sparsity": 0.9}, rounds=1)
    whole = renda("weight-rewinding", 2 * EPOCH)
    assert hashes(run_bench(bench_of(ticket), None)) == hashes(run_bench(bench_of(whole), None))


def test_given_weights_are_fine_tuned_as_if_they_had_just_been_trained(bench_of: BenchOf, tmp_path: Path) -> None:
    whole = blocks("fine-tune", conv=True, retrain={"steps": "5it"})
    bench = bench_of(whole)
    first, _ = rounds(bench)
    file = tmp_path / "trained.safetensors"
    save_tensors(file, model_part(first.end().tensors))
    given = {**whole, "train": {**whole["train"], "from": str(file)}}
    assert hashes(run_bench(bench_of(given), tmp_path / "a")) == hashes(run_bench(bench_of(whole), None))


# --- scores ---------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


def gradient_of_c(bench: Bench, dense: Mapping[str, Tensor], c: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
    """dL/dc of the network whose weights are c ⊙ w, c being variables of their own."""
    scales = {name: mask.float().requires_grad_() for name, mask in c.items()}
    scaled = {name: scale * dense[name] for name, scale in scales.items()}
    logits = torch.func.functional_call(bench.model, scaled, (batch[0],))
    found = torch.autograd.grad(cross_entropy(logits, batch[1]), list(scales.values()))
    return dict(zip(scales, found, strict=True))


@pytest.mark.parametrize("masked", [False, True])
def test_the_sensitivity_to_a_connection_is_w_times_its_gradient(bench_of: BenchOf, masked: bool) -> None:
    bench = bench_of(blocks("snip"))
    bench.model.train()
    weights = prunable_weights(bench.model)
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    c = {
        name: torch.rand(w.shape) < 0.3 if masked else torch.ones(w.shape, dtype=torch.bool)
        for name, w in dense.items()
    }
    (batch,) = evidence(bench, 1).batches(1)
    wanted = gradient_of_c(bench, dense, c, batch)
    MaskSet(c).apply(bench.model)
    scoring = Scoring(bench.model, weights, dense, lambda: [batch], cross_entropy, 0, (1, 1))
    found = CRITERIA["snip"].make(scoring)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any(bool((wanted[name][~c[name]] != 0).any()) for name in wanted) is masked


def slow_force(bench: Bench, sparsity: str, iterations: int, nested: bool) -> list[Tensor]:
    """de Jorge et al. 2021, algorithm 1, over one flat vector: the mask after every step."""
    dense = {name: weight.detach().clone() for name, weight in prunable_weights(bench.model).items()}
    sizes = [weight.numel() for weight in dense.values()]
    mask, found = torch.ones(sum(sizes), dtype=torch.bool), []
    for t in range(1, iterations + 1):
        parts = mask.split(sizes)  # type: ignore[no-untyped-call]
        c = {name: part.view(dense[name].shape) for name, part in zip(dense, parts, strict=True)}
        (batch,) = evidence(bench, 1).batches(t)
        sensitivity = torch.cat([g.abs().flatten() for g in gradient_of_c(bench, dense, c, batch).values()]).double()
        if nested:
            sensitivity = sensitivity.masked_fill(~mask, -1.0)
        count = keep_count(len(mask), keep_share({"final": float(sparsity)}, t, iterations))
        mask = torch.zeros_like(mask)
        mask[sensitivity.sort(descending=True, stable=True).indices[:count]] = True
        found.append(mask)
    return found


def flat(masks: MaskSet) -> Tensor:
    return torch.cat([mask.flatten() for mask in masks.values()])


def scored(preset: str, iterations: int) -> Blocks:
    nested = preset != "force"
    score = {"iterations": iterations, "path": "exponential", "nested": nested}
    return blocks(preset, mask={"score": score, "sparsity": 0.95}, retrain="none")


def test_at_one_iteration_force_and_iterative_snip_are_snip(bench_of: BenchOf) -> None:
    found = {
        run_bench(bench_of(scored(preset, 1)), None).masks.sha256 for preset in ("force", "iterative-snip", "snip")
    }
    assert len(found) == 1
    bench = bench_of(scored("snip", 1))
    bench.model.train()
    assert torch.equal(
        slow_force(bench, "0.95", 1, False)[-1], flat(run_bench(bench_of(scored("snip", 1)), None).masks)
    )


@pytest.mark.parametrize("preset", ["force", "iterative-snip"])
def test_over_iterations_force_brings_back_what_iterative_snip_does_not(bench_of: BenchOf, preset: str) -> None:
    bench = bench_of(scored(preset, 8))
    bench.model.train()
    slow = slow_force(bench, "0.95", 8, preset == "iterative-snip")
    assert torch.equal(slow[-1], flat(run_bench(bench_of(scored(preset, 8)), None).masks))
    returns = sum(int((after & ~before).sum()) for before, after in zip(slow, slow[1:], strict=False))
    assert (returns > 0) is (preset == "force")


def test_the_masks_between_iterations_are_the_slow_ones_too(bench_of: BenchOf) -> None:
    for preset in ("force", "iterative-snip"):
        bench, seen = bench_of(scored(preset, 6)), []
        weights = prunable_weights(bench.model)

        def batches(iteration: int, bench: Bench = bench, seen: list[Any] = seen, weights: Any = weights) -> Batches:
            seen.append(torch.cat([(weight.detach() != 0).flatten() for weight in weights.values()]))
            return evidence(bench, 1).batches(iteration)

        shown = Evidence(batches, bench.output_layer, bench.recipe.seed, 1)
        last = find_mask(bench.model, MaskRule.of(bench.recipe.mask), Decimal("0.05"), None, shown)
        bench.model.train()
        slow = slow_force(bench, "0.95", 6, preset != "force")
        assert [torch.equal(a, b) for a, b in zip([*seen[1:], flat(last)], slow, strict=True)] == [True] * 6


# --- growing regularization -----------------------------------------------------------------------------------------

GROWING: Blocks = {"name": "growing-penalty", "step": 0.3, "every": "3it", "ceiling": 1.0, "stabilise": "4it"}


def growing(**options: Any) -> Blocks:
    return {**GROWING, "optimizer": {"lr": 0.001}, **options}


def greg(preset: str, retrain: Any = None, **options: Any) -> Blocks:
    found = blocks(preset, conv=True, retrain=retrain or {"steps": "5it", "schedule": "constant"})
    at = "end"
    if preset == "greg-2":
        at = "prepared"
        rising = {"name": "rising-penalty", "step": 0.02, "every": "2it", "until": 0.05, "optimizer": {"lr": 0.001}}
        found["mask"] = {"prepare": rising}
        options = {"kept": -0.001, **options}
    return {**found, "weights": {"at": at, "transform": [growing(**options)]}}


@pytest.fixture
def penalties(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[float]]]:
    """The values of the penalty at every iteration in which it acts: per layer, the distinct ones."""
    seen: list[dict[str, list[float]]] = []
    real = Penalty.add_to_gradients

    def watched(self: Penalty) -> None:
        seen.append({name: sorted(set(value.flatten().tolist())) for name, value in self.values.items()})
        real(self)

    monkeypatch.setattr(Penalty, "add_to_gradients", watched)
    return seen


def as_float32(value: Decimal) -> float:
    return float(torch.tensor(float(value)))


def test_the_growing_penalty_is_exact_at_every_iteration(
    bench_of: BenchOf, penalties: list[dict[str, list[float]]]
) -> None:
    run_bench(bench_of(greg("greg-1")), None)
    wanted = [min(Decimal("0.3") * (t // 3 + 1), Decimal(1)) for t in range(4 * 3 + 4)]
    assert penalties == [{name: [0.0, as_float32(v)] for name in ("conv1.weight", "conv2.weight")} for v in wanted]


def test_greg_2_goes_on_from_the_penalty_of_its_pick_phase(
    bench_of: BenchOf, penalties: list[dict[str, list[float]]]
) -> None:
    run_bench(bench_of(greg("greg-2")), None)
    rising = [min(Decimal("0.02") * (t // 2 + 1), Decimal("0.05")) for t in range(3 * 2)]
    grows = [min(Decimal("0.05") + Decimal("0.3") * (t // 3 + 1), Decimal(1)) for t in range(4 * 3 + 4)]
    names = ("conv1.weight", "conv2.weight")
    picks = [{name: [as_float32(v)] for name in names} for v in rising]
    pushes = [{name: [as_float32(Decimal("-0.001")), as_float32(v)] for name in names} for v in grows]
    assert penalties == picks + pushes


def test_the_penalty_shrinks_what_goes_so_that_removing_it_changes_little(bench_of: BenchOf) -> None:
    """GReg's promise (section 3.2), beside one-shot removal of the same filters."""
    options = {"step": 5.0, "every": "1it", "ceiling": 50.0, "stabilise": "60it", "optimizer": {"lr": 0.005}}
    bench = bench_of({**blocks("greg-1", retrain="none"), "weights": {"at": "end", "transform": [growing(**options)]}})
    first, (item,) = rounds(bench)
    _, weights = item._transformed
    grown, plain = weights(), first.end().tensors
    gone = {name: ~mask for name, mask in item.found.items() if not bool(mask.all())}
    inputs = bench.data.validation.inputs

    def change(tensors: Mapping[str, Tensor]) -> float:
        load_model(bench.model, tensors)
        bench.model.eval()
        with torch.no_grad():
            before = bench.model(inputs)
            item.found.apply(bench.model)
            return float((bench.model(inputs) - before).abs().max())

    for name, mask in gone.items():
        assert float(grown[MODEL + name][mask].abs().max()) < 0.05 * float(plain[MODEL + name][mask].abs().max())
    assert change(grown) < 0.05 * change(plain)


def test_grown_and_held_on_some_weights_a_quadratic_ends_at_its_fixed_point() -> None:
    """(H + Λ)⁻¹ H w* with Λ = τ on what goes and another constant on what stays, by the hook itself and plain SGD."""
    source = torch.Generator().manual_seed(2)
    root = torch.randn(5, 5, dtype=torch.float64, generator=source)
    hessian = root @ root.T / 5 + 0.5 * torch.eye(5, dtype=torch.float64)
    optimum = torch.randn(5, dtype=torch.float64, generator=source)
    weight = nn.Parameter(optimum.clone())
    removed = torch.tensor([True, False, True, False, False])
    ramp = Ramp(Decimal(0), Decimal("0.01"), 2, Decimal("0.8"))
    hook = GrowingHook(
        Penalty({"w": weight}), {"w": removed}, ramp, 600, {"kept": -0.1, "ratio": None, "together": True}
    )
    optimizer, step = torch.optim.SGD([weight], lr=0.2), 0
    while not hook.finished(step):
        hook.before_step(step)
        optimizer.zero_grad()
        away = weight - optimum
        (0.5 * away @ hessian @ away).backward()  # type: ignore[no-untyped-call]
        hook.penalty.add_to_gradients()
        optimizer.step()
        step += 1
    held = torch.where(removed, 0.8, -0.1).double().diag()
    expected = torch.linalg.solve(hessian + held, hessian @ optimum)
    assert step == 160 + 600
    assert float((weight.detach() - expected).abs().max()) < 1e-7


# --- gradual --------------------------------------------------------------------------------------------------------

GRADUAL: Blocks = {"name": "gradual", "from": "2it", "until": "14it", "every": "4it"}


def gradual(scope: str = "global", **options: Any) -> Blocks:
    dynamics = {**GRADUAL, **options}
    mask = {"criterion": "all", "at": "0it", "sparsity": 0.9, "scope": scope}
    return blocks("gradual-magnitude", mask=mask, retrain={"until": "end", "dynamics": dynamics})


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
    bench_of: BenchOf, moves: list[MaskSet], scope: str, until: str
) -> None:
    bench = bench_of(gradual(scope, until=until))
    result = run_bench(bench, None)
    end = 14 if until == "14it" else 18
    events = [2, 6, 10, 14] if end == 14 else [2, 6, 10, 14, 18]
    # Zhu & Gupta's eq. 1 in whole numbers: kept is N (1 - .9 (1 - (1 - t)³)), half up.
    total, span = bench_total(bench), end - 2
    wanted = [
        (2 * total * (10 * span**3 - 9 * (span**3 - (end - t) ** 3)) + 10 * span**3) // (2 * 10 * span**3)
        for t in events
    ]
    distinct = [masks for index, masks in enumerate(moves) if index == 0 or masks is not moves[index - 1]]
    assert [kept(masks) for masks in distinct] == [total, *wanted]
    assert wanted[0] == total
    assert all(
        not bool((after[name] & ~before[name]).any())
        for before, after in zip(distinct, distinct[1:], strict=False)
        for name in after
    )
    assert result.receipt.units_asked == kept(result.masks) == keep_count(total, Decimal("0.1")) == wanted[-1]
    assert result.receipt.asked == 0.9
    assert all(bool((result.tensors[name][~mask] == 0).all()) for name, mask in result.masks.items())


def test_the_middle_of_a_cubic_path_to_ninety_percent_is_at_the_paper_s_78_75(
    bench_of: BenchOf, moves: list[MaskSet]
) -> None:
    bench = bench_of(gradual(**{"from": "0it", "until": "16it", "every": "8it"}))
    run_bench(bench, None)
    counts = sorted({kept(masks) for masks in moves}, reverse=True)
    assert counts == [keep_count(bench_total(bench), Decimal(share)) for share in ("1", "0.2125", "0.1")]


# --- densities and controls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["er", "erk"])
def test_a_random_network_has_the_densities_of_its_scope_and_the_exact_total(bench_of: BenchOf, scope: str) -> None:
    bench = bench_of(blocks("random", conv=True, mask={"scope": scope, "sparsity": 0.7}, retrain={"until": "end"}))
    result = run_bench(bench, None)
    assert kept(result.masks) == keep_count(bench_total(bench), Decimal("0.3"))
    shapes = {name: tuple(weight.shape) for name, weight in prunable_weights(bench.model).items()}
    sides = {name: shape if scope == "erk" else shape[:2] for name, shape in shapes.items()}
    raw = {name: sum(s) / torch.Size(s).numel() for name, s in sides.items()}
    free = {n: int(m.sum()) / m.numel() / raw[n] for n, m in result.masks.items() if not bool(m.all())}
    # Of the layers that are not full, the density over the raw one is the same ε but for one unit of rounding.
    slack = max(1 / (result.masks[name].numel() * raw[name]) for name in free)
    assert len(free) >= 2
    assert max(free.values()) - min(free.values()) <= 2 * slack


@pytest.mark.parametrize("control", ["shuffle", "invert", "random"])
def test_a_control_has_the_counts_of_the_mask_that_it_stands_for(bench_of: BenchOf, control: str) -> None:
    plain = run_bench(bench_of(blocks("lottery-ticket", rounds=2)), None)
    mask = {"control": control}
    other = run_bench(bench_of(blocks("lottery-ticket", rounds=2, mask=mask)), None)
    assert other.rounds[0].mask_sha256 == plain.rounds[0].mask_sha256
    assert other.masks.sha256 != plain.masks.sha256
    assert other.receipt.units_kept == plain.receipt.units_kept
    assert (other.receipt == plain.receipt) is (control != "random")


def test_the_control_of_a_moved_mask_is_static_and_trained_from_k2(bench_of: BenchOf, moves: list[MaskSet]) -> None:
    moved = run_bench(bench_of(gradual()), None)
    raw = gradual()
    raw["mask"]["control"] = "shuffle"
    moves.clear()
    bench = bench_of(raw)
    result = run_bench(bench, None)
    assert result.receipt == moved.receipt
    assert result.masks.sha256 != moved.masks.sha256
    last = moves[-1]
    assert last.sha256 == result.masks.sha256
    assert sum(masks.sha256 == last.sha256 for masks in moves) == len(moves) - 1 - max(
        index for index, masks in enumerate(moves) if masks.sha256 == moved.masks.sha256
    )
    _, (item,) = rounds(bench)
    assert item.controlled is not None
    start, w0 = model_part(item.controlled.at(0).tensors), model_part(bench.start)
    assert all(same_bits(start[n], w0[n].masked_fill(~m, 0.0)) for n, m in result.masks.items())


def test_shuffled_weights_of_snip_are_drawn_anew(bench_of: BenchOf) -> None:
    bench = bench_of(blocks("control-shuffle"))
    _, (item,) = rounds(bench)
    start, w0 = model_part(item.retraining.at(0).tensors), model_part(bench.start)
    for name, mask in item.masks.items():
        assert bool((start[name][mask] != w0[name][mask]).all())
        assert float(start[name][mask].std()) == pytest.approx(float(w0[name].std()), rel=0.6)


# --- storage --------------------------------------------------------------------------------------------------------

TRIALS: dict[str, Blocks] = {
    "dense": blocks("dense"),
    "random": blocks("random", conv=True),
    "magnitude-after-training": blocks("magnitude-after-training", retrain={"steps": "4it"}),
    "lottery-ticket": blocks("lottery-ticket", rounds=3),
    "late-rewinding": blocks("late-rewinding", rounds=2, weights={"at": "5it"}),
    "learning-rate-rewinding": blocks("learning-rate-rewinding", rounds=2, retrain={"clock": "end-5it"}),
    "force": scored("force", 3) | {"retrain": {"until": "end", "clock": "0it"}},
    "greg-1": greg("greg-1"),
    "greg-2": greg("greg-2"),
    "greg-1, ended early": greg("greg-1", ratio=1.0),
    "gradual": gradual(),
    "gradual with its control": {**gradual(), "mask": {**gradual()["mask"], "control": "random"}},
    "scratch-e": blocks("scratch-e", conv=True),
    "snip recalibrated": blocks(
        "snip", conv=True, weights={"at": "end", "transform": ["batchnorm-recalibrate"]}, retrain="none"
    ),
    "two transforms in two rounds": {
        **greg("greg-1", retrain={"steps": "4it", "schedule": "constant"}),
        "weights": {"at": "4it", "transform": ["reinit", growing(), "batchnorm-recalibrate", growing(step=0.5)]},
        "rounds": 2,
    },
}


def figures(result: Result) -> Any:
    return (*hashes(result), result.metrics, [(item.metrics, item.mask_sha256) for item in result.rounds])


@pytest.mark.parametrize("trial", TRIALS)
def test_a_result_does_not_depend_on_what_was_stored(bench_of: BenchOf, tmp_path: Path, trial: str) -> None:
    raw = TRIALS[trial]
    nowhere = run_bench(bench_of(raw), None)
    first, second = run_bench(bench_of(raw), tmp_path), run_bench(bench_of(raw), tmp_path)
    assert figures(nowhere) == figures(first) == figures(second)
    assert nowhere.steps == first.steps
    assert first.steps[1] == 0
    assert second.steps == (0, first.steps[0])
    assert first.metrics["steps_trained"] == first.steps[0]
    assert all(bool((first.tensors[name][~mask] == 0).all()) for name, mask in first.masks.items())


def test_an_early_end_is_early(bench_of: BenchOf) -> None:
    """So that the trial above is what its name says."""
    steps = [run_bench(bench_of(TRIALS[name]), None).steps[0] for name in ("greg-1", "greg-1, ended early")]
    assert steps[0] - steps[1] == 12


@pytest.mark.parametrize("lost", range(6))
def test_a_trial_that_lost_part_of_its_states_finds_the_same_result(
    bench_of: BenchOf, tmp_path: Path, lost: int
) -> None:
    """Whichever stretches are gone, what is left is used and the rest is trained again."""
    raw = TRIALS["two transforms in two rounds"]
    whole = run_bench(bench_of(raw), tmp_path)
    homes = sorted(path.parent for path in tmp_path.glob("vertices/*/*/step-*"))
    draw = torch.Generator().manual_seed(lost)
    for home in sorted(set(homes)):
        if float(torch.rand((), generator=draw)) < 0.5:
            home.rename(tmp_path / f"lost-{home.name}")
    again = run_bench(bench_of(raw), tmp_path)
    assert hashes(again) == hashes(whole)
    assert again.steps[0] <= whole.steps[0]


def test_trials_of_different_rounds_share_those_that_they_have_in_common(bench_of: BenchOf, tmp_path: Path) -> None:
    two = run_bench(bench_of(blocks("lottery-ticket", rounds=2)), tmp_path)
    three = run_bench(bench_of(blocks("lottery-ticket", rounds=3)), tmp_path)
    length = 2 * EPOCH
    assert (two.steps, three.steps) == ((3 * length, 0), (length, 3 * length))
    assert [item.mask_sha256 for item in three.rounds[:2]] == [item.mask_sha256 for item in two.rounds]
    assert three.metrics["steps_trained"] == 4 * length
    assert hashes(three) == hashes(run_bench(bench_of(blocks("lottery-ticket", rounds=3)), None))


def test_trials_of_different_paradigms_share_their_first_training(bench_of: BenchOf, tmp_path: Path) -> None:
    run_bench(bench_of(blocks("fine-tune", retrain={"steps": "4it"})), tmp_path)
    late = run_bench(bench_of(renda("weight-rewinding", 5)), tmp_path)
    assert late.steps == (5, 18)  # step 13 is replayed from a stored one, which counts as shared
    assert hashes(late) == hashes(run_bench(bench_of(renda("weight-rewinding", 5)), None))


@pytest.mark.parametrize(
    "change",
    [
        {"task": {**SMALL["task"], "seed": 4}},
        {"train": {"steps": "19it"}},
        {"train": {"steps": "2ep", "batch": 64}},
        {"train": {"steps": "2ep", "optimizer": {"lr": 0.05}}},
        {"train": {"steps": "2ep", "init": "xavier"}},
        {"task": {"model": {"name": "mlp", "hidden": [20, 13]}, "seed": 3}},
    ],
)
def test_what_changes_the_first_training_shares_nothing(bench_of: BenchOf, tmp_path: Path, change: Blocks) -> None:
    run_bench(bench_of(blocks("magnitude-after-training", retrain={"steps": "2it"})), tmp_path)
    other = blocks("magnitude-after-training", retrain={"steps": "2it"}, **change)
    stored, nowhere = run_bench(bench_of(other), tmp_path), run_bench(bench_of(other), None)
    assert stored.steps[1] == 0
    assert figures(stored) == figures(nowhere)


def test_a_run_leaves_the_random_state_and_the_threads_of_its_caller_alone(bench_of: BenchOf) -> None:
    raw = blocks("snip")
    raw["train"] = {"steps": "2it", "threads": 2}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    run_bench(bench_of(raw), None)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.get_num_threads() == 1


def test_a_trial_that_diverges_says_so_and_stores_nothing_of_it(bench_of: BenchOf, tmp_path: Path) -> None:
    from prune_search.trial.run import TrialError

    raw = blocks("fine-tune", retrain={"steps": "4it"})
    raw["train"] = {"steps": "2ep", "optimizer": {"lr": 1e30}}
    for _ in range(2):
        with pytest.raises(TrialError, match="the loss is") as failed:
            run_bench(bench_of(raw), tmp_path)
        assert failed.value.kind == "nan"
    assert list(tmp_path.glob("vertices/*/*/step-*")) == []
