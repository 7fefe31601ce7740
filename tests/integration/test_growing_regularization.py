"""Growing regularization in whole trials: its penalty at every iteration, and what it does to the weights."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
import torch
from arrays import arrays
from small_trials import SetupOf, blocks, greg, growing, rounds
from torch import Tensor, nn

from prune_search.pruning.weights.transforms.penalties import GrowingHook, Penalty, Ramp
from prune_search.training.segment import MODEL, load_model
from prune_search.trial.run import run_trial


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
    setup_of: SetupOf, penalties: list[dict[str, list[float]]]
) -> None:
    run_trial(setup_of(greg("greg-1")), None)
    wanted = [min(Decimal("0.3") * (t // 3 + 1), Decimal(1)) for t in range(4 * 3 + 4)]
    assert penalties == [{name: [0.0, as_float32(v)] for name in ("conv1.weight", "conv2.weight")} for v in wanted]


def test_greg_2_goes_on_from_the_penalty_of_its_pick_phase(
    setup_of: SetupOf, penalties: list[dict[str, list[float]]]
) -> None:
    run_trial(setup_of(greg("greg-2")), None)
    rising = [min(Decimal("0.02") * (t // 2 + 1), Decimal("0.05")) for t in range(3 * 2)]
    grows = [min(Decimal("0.05") + Decimal("0.3") * (t // 3 + 1), Decimal(1)) for t in range(4 * 3 + 4)]
    names = ("conv1.weight", "conv2.weight")
    picks = [{name: [as_float32(v)] for name in names} for v in rising]
    pushes = [{name: [as_float32(Decimal("-0.001")), as_float32(v)] for name in names} for v in grows]
    assert penalties == picks + pushes


@pytest.mark.parametrize("increments", [3, 1])
def test_greg_2_picks_in_the_step_of_the_last_increment_where_it_is_told_to(
    setup_of: SetupOf, penalties: list[dict[str, list[float]]], increments: int
) -> None:
    """MingSun-Tse/Regularization-Pruning, reg_pruner.py: picked before any training under the last penalty."""
    raw = greg("greg-2", hold="2it")
    rising = {**raw["mask"]["prepare"], "hold": False, "until": 0.02 * increments}
    setup = setup_of({**raw, "mask": {**raw["mask"], "prepare": rising}})
    run_trial(setup, None)
    names = ("conv1.weight", "conv2.weight")
    last = Decimal("0.02") * increments
    risen = [Decimal("0.02") * (t // 2 + 1) for t in range(2 * increments)]
    grows = [min(last + Decimal("0.3") * (t // 3 + 1), Decimal(1)) for t in range(4 * 3 + 4)]
    picks = [{name: [as_float32(v)] for name in names} for v in risen]
    pushes = [{name: [as_float32(Decimal("-0.001")), as_float32(v)] for name in names} for v in grows]
    assert penalties == picks + pushes
    _, (item,) = rounds(setup)
    weights = item.prepared.end().tensors if item.prepared is not None else {}
    for name in names:
        size = weights[MODEL + name].abs().flatten(1).sum(1)
        gone = (~item.found[name].flatten(1).any(1)).nonzero().flatten().tolist()
        assert sorted(gone) == sorted(size.argsort()[: len(gone)].tolist())


def test_the_penalty_shrinks_what_goes_so_that_removing_it_changes_little(setup_of: SetupOf) -> None:
    """GReg's promise (section 3.2), beside one-shot removal of the same filters."""
    options = {"step": 5.0, "every": "1it", "ceiling": 50.0, "stabilise": "60it", "optimizer": {"lr": 0.005}}
    setup = setup_of({**blocks("greg-1", retrain="none"), "weights": {"at": "end", "transform": [growing(**options)]}})
    first, (item,) = rounds(setup)
    weights = item._transformed
    grown, plain = weights(), first.end().tensors
    gone = {name: ~mask for name, mask in item.found.items() if not bool(mask.all())}
    inputs = arrays(setup.data).validation.inputs

    def change(tensors: Mapping[str, Tensor]) -> float:
        load_model(setup.model, tensors)
        setup.model.eval()
        with torch.no_grad():
            before = setup.model(inputs)
            item.found.apply(setup.model)
            return float((setup.model(inputs) - before).abs().max())

    for name, mask in gone.items():
        assert float(grown[MODEL + name][mask].abs().max()) < 0.05 * float(plain[MODEL + name][mask].abs().max())
    assert change(grown) < 0.05 * change(plain)


def test_a_phase_begins_with_optimizer_buffers_at_zero_wherever_its_weights_are_from(setup_of: SetupOf) -> None:
    """w(4) on the way through a longer training, and as the end of one of four steps."""
    raw = greg("greg-1", retrain="none")
    raw["mask"] = {**raw["mask"], "at": "4it"}
    found = set()
    for steps in ("4it", "9it"):
        raw["train"] = {"steps": steps, "schedule": "constant"}
        raw["weights"] = {"at": "4it", "transform": [growing()]}
        found.add(run_trial(setup_of(raw), None).weights_sha256)
    assert len(found) == 1


@pytest.mark.parametrize("preset", ["greg-1", "greg-2"])
def test_what_an_earlier_round_removed_stays_removed_while_a_phase_trains(setup_of: SetupOf, preset: str) -> None:
    raw = greg(preset, retrain={"steps": "3it", "schedule": "constant"})
    raw["rounds"] = 2
    if preset == "greg-1":
        raw["weights"]["at"] = "4it"
    _, chain = rounds(setup_of(raw))
    segments = [chain[1].prepared] if chain[1].prepared else []
    _ = chain[1].result
    for segment in (*segments, *chain[1]._phases):
        end = segment.end().tensors
        for name, mask in chain[0].masks.items():
            assert bool((end[MODEL + name][~mask] == 0).all())
    assert [layer.units_kept for layer in chain[1].masks.receipt().layers if layer.units] == [2, 3]


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
