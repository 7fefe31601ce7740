"""Masks of constant size that move inside a trial, and random masks that are annealed away."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_trials import Blocks, SetupOf, blocks, model_part, rounds, same_bits

from prune_search.recipe.clock import resolve
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.training.course_tensors import OPTIMIZER
from prune_search.trial.run import run_trial

FAST: dict[str, Blocks] = {
    "set": {"every": "4it"},
    "rigl": {"every": "4it", "until": "14it"},
    "snfs": {"every": "4it"},
    "deepr": {"temperature": 1.0e-4},
    "gibbs": {"beta": {"until": "12it", "every": "2it"}},
}


def moving(preset: str, mask: Blocks | None = None, **options: Any) -> Blocks:
    """A preset on a small network for 18 steps."""
    dynamics = {"name": preset, **FAST[preset], **options}
    return blocks(preset, mask={"sparsity": 0.7, **(mask or {})}, retrain={"until": "end", "dynamics": dynamics})


def test_rigl_moves_at_its_events_only_and_they_take_the_place_of_the_update(setup_of: SetupOf) -> None:
    _, (item,) = rounds(setup_of(moving("rigl")))
    states = [item.retraining.at(step).tensors for step in range(19)]
    masks = [item.masks_in(state) for state in states]
    moved = [step for step in range(18) if masks[step].sha256 != masks[step + 1].sha256]
    assert moved == [0, 4, 8, 12]
    for step in range(18):
        before, after = model_part(states[step]), model_part(states[step + 1])
        stayed = [same_bits(before[name], after[name]) for name in before if name not in masks[0]]
        assert all(stayed) is (step in moved)
        if step not in moved:
            continue
        for name, mask in masks[step + 1].items():
            both = mask & masks[step][name]
            assert same_bits(after[name], before[name].masked_fill(~both, 0.0))
            key = f"{OPTIMIZER}{name}/momentum_buffer"
            # Before the first update there is no momentum.
            assert (key in states[step]) is (step > 0)
            if step > 0:
                assert same_bits(states[step + 1][key], states[step][key].masked_fill(~both, 0.0))
    counts = {tuple(int(mask.sum()) for mask in one.values()) for one in masks}
    assert len(counts) == 1


@pytest.mark.parametrize("preset", ["rigl", "snfs", "gibbs"])
def test_the_control_has_the_moved_mask_s_counts_per_layer(setup_of: SetupOf, preset: str) -> None:
    moved = run_trial(setup_of(moving(preset)), None)
    control = run_trial(setup_of(moving(preset, {"control": "shuffle"})), None)
    assert control.receipt == moved.receipt
    assert control.masks.sha256 != moved.masks.sha256
    assert moved.receipt.units_kept == moved.receipt.units_asked


def test_connections_can_be_dropped_by_a_score_of_the_loss(setup_of: SetupOf) -> None:
    found = [run_trial(setup_of(moving("rigl", criterion=name)), None).masks for name in ("magnitude", "taylor")]
    assert found[0].sha256 != found[1].sha256
    assert found[0].sparsity() == found[1].sparsity()


def test_gibbs_weights_are_whole_until_the_end(setup_of: SetupOf) -> None:
    _, (item,) = rounds(setup_of(moving("gibbs")))
    before = model_part(item.retraining.at(17).tensors)
    assert item.masks_in(item.retraining.at(17).tensors).sparsity() == 0.0
    assert all(bool((value != 0).all()) for name, value in before.items() if name.endswith("weight"))
    end = item.retraining.end().tensors
    for name, mask in item.masks_in(end).items():
        kept = model_part(end)[name]
        assert bool((kept[~mask] == 0).all())
        assert bool((kept[mask] != 0).all())


@pytest.mark.parametrize("granularity", ["kernel", "filter"])
def test_gibbs_ends_with_exactly_the_asked_kernels_and_filters(setup_of: SetupOf, granularity: str) -> None:
    dynamics = {"name": "gibbs", "hamiltonian": granularity, "coupling": 0.01, "sweeps": 5, **FAST["gibbs"]}
    mask = {"at": "0it", "criterion": "all", "sparsity": 0.5, "scope": "uniform", "granularity": granularity}
    raw = blocks("gibbs", conv=True, mask=mask, retrain={"until": "end", "dynamics": dynamics})
    raw["train"] = {**raw["train"], "steps": "18it"}
    result = run_trial(setup_of(raw), None)
    assert result.receipt.units_kept == result.receipt.units_asked
    assert result.receipt.reached > 0.2
    for name, one in result.masks.everything.items():
        assert bool((result.tensors[name][~one] == 0).all())


@pytest.mark.parametrize(
    ("raw", "path", "said"),
    [
        (moving("gibbs", hamiltonian="kernel"), "retrain.dynamics", "mask.granularity must be kernel"),
        (moving("gibbs", {"scope": "global"}), "mask.scope", "must be uniform with dynamics gibbs"),
        (moving("rigl", {"criterion": "all"}), "mask.criterion", "must not keep everything with dynamics rigl"),
        (moving("rigl", {"granularity": "filter"}), "retrain.dynamics", "rigl works only with granularity weight"),
        (moving("rigl", until="19it"), "retrain.dynamics.until", "19it is past the end"),
        (moving("snfs", criterion="fpgm"), "retrain.dynamics.criterion", "here single weights move"),
        (moving("gibbs", beta={"until": "19it"}), "retrain.dynamics.beta.until", "19it is past the end"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_path(raw: Blocks, path: str, said: str) -> None:
    from prune_search.recipe.space import read_space

    with pytest.raises(UserError) as caught:
        resolve(Recipe.read(read_space(raw, "test").only_recipe().canonical), 9)
    assert [(problem.path, said in problem.message) for problem in caught.value.problems] == [(path, True)]


def test_dropout_and_other_draws_do_not_move_with_the_mask(setup_of: SetupOf) -> None:
    """With nothing dropped the trial is that of the static mask, bit for bit."""
    still = run_trial(setup_of(moving("set", drop=0.0)), None)
    raw = moving("set")
    del raw["retrain"]["dynamics"]
    static = run_trial(setup_of({key: value for key, value in raw.items() if key != "preset"} | whole()), None)
    assert still.masks.sha256 == static.masks.sha256
    assert still.weights_sha256 == static.weights_sha256
    assert all(torch.equal(still.tensors[name], value) for name, value in static.tensors.items())


def whole() -> Blocks:
    """The random mask that `moving("set")` begins with."""
    return {
        "mask": {"at": "0it", "criterion": "random", "sparsity": 0.7, "scope": "er"},
        "weights": {"at": "0it"},
        "retrain": {"until": "end"},
    }
