"""Places and lengths that only show while a trial runs: early-bird masks, and as many operations as training took."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import arrays
from small_trials import Blocks, SetupOf, rounds

from prune_search.compact.flops import flops
from prune_search.pruning.mask.finder import find_mask
from prune_search.recipe.clock import resolve
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.training.segment import load_model
from prune_search.trial.addresses import nominal_branch
from prune_search.trial.run import run_trial
from prune_search.trial.scoring_data import scoring_data

CONV: Blocks = {"model": {"name": "small-conv", "channels": [8, 12]}, "seed": 3}


def early(**at: Any) -> Blocks:
    whole = {"stable": "mask-distance", "below": 0.08, "window": "2ep", "latest": "50%", **at}
    train = {"steps": "12ep", "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}}
    return {"preset": "early-bird", "task": CONV, "train": train, "mask": {"at": whole}}


@pytest.mark.parametrize("below", [0.0, 0.04, 0.08, 0.3])
def test_the_mask_is_found_where_the_last_distances_are_all_small(setup_of: SetupOf, below: float) -> None:
    setup = setup_of(early(below=below))
    first, (item,) = rounds(setup)
    shown, masks = scoring_data(setup, 1), []
    for epoch in range(1, 7):
        load_model(setup.model, first.at(9 * epoch).tensors)
        found = find_mask(setup.model, item.rule, Decimal("0.5"), None, shown)
        kept = [mask.reshape(mask.shape[0], -1).any(1) for name, mask in found.items() if name.startswith("conv")]
        masks.append(torch.cat(kept))
    distances = [float((a != b).float().mean()) for a, b in pairwise(masks)]
    wanted = next((9 * (i + 2) for i in range(1, 5) if max(distances[i - 1 : i + 1]) < below), 54)
    assert item.k1 == wanted
    if below == 0.3:
        assert item.k1 == 27
    if below == 0.0:
        assert item.k1 == 54


@pytest.mark.slow
def test_an_early_bird_is_the_trial_with_the_place_written_down(setup_of: SetupOf, tmp_path: Path) -> None:
    result = run_trial(setup_of(early(below=0.3)), tmp_path)
    written = early()
    written["mask"] = {"at": "27it"}
    plain = run_trial(setup_of(written), None)
    assert (result.masks.sha256, result.weights_sha256) == (plain.masks.sha256, plain.weights_sha256)
    assert result.metrics["steps_trained"] == plain.metrics["steps_trained"] == 108
    assert result.steps[0] == plain.steps[0] == 108
    # Where it was found is in what people read; of a written place there is nothing to say.
    assert [one.get("found_at") for one in result.as_data()["rounds"]] == [27]
    assert ["found_at" in one for one in plain.as_data()["rounds"]] == [False]
    again = run_trial(setup_of(early(below=0.3)), tmp_path)
    assert again.steps == (0, 108, 0)
    assert again.metrics == result.metrics
    # What it trained is there for others.
    other = run_trial(setup_of(written), tmp_path)
    assert other.weights_sha256 == plain.weights_sha256
    assert other.steps[0] == 81


def test_a_window_shorter_than_an_epoch_is_looked_at_as_often(setup_of: SetupOf) -> None:
    _, (item,) = rounds(setup_of(early(below=1.0, window="4it")))
    assert item.k1 == 8


def test_a_plan_takes_the_latest_place() -> None:
    recipe = read_space(early(), "a test").only_recipe()
    line, branch = nominal_branch(recipe, 9)
    assert (line.k1, line.trained, line.retrain_steps, line.least_steps) == (54, 54, 108, 54)
    assert [(v.place, v.needed) for v in branch.vertices()] == [("train", 54), ("retrain.1", 54)]
    other = read_space(early(below=0.2), "a test").only_recipe()
    assert nominal_branch(other, 9)[1].rounds[0].mask != branch.rounds[0].mask
    assert nominal_branch(other, 9)[1].train.address == branch.train.address


def scratch(**retrain: Any) -> Blocks:
    steps: Any = {"same_flops_as": "train", "at_most": 4.0}
    whole = {"steps": steps, "clock": "0it", "stretch": True, **retrain}
    return {"preset": "scratch-b", "task": CONV, "train": {"steps": "2ep"}, "retrain": whole}


def test_scratch_b_trains_for_the_operations_of_the_dense_network(setup_of: SetupOf, tmp_path: Path) -> None:
    setup = setup_of(scratch())
    _, (item,) = rounds(setup)
    example = arrays(setup.data).train.inputs[:1]
    relief = flops(setup.model, example) / flops(setup.model, example, item.found)
    # Half of the filters: a half of the first layer, a quarter of the second, a half of the last.
    first, second, last = 8 * 9 * 64, 12 * 8 * 9 * 16, 48 * 10
    assert relief == pytest.approx((first + second + last) / (first / 2 + second / 4 + last / 2))
    steps = int(relief * 18 + 0.5)
    assert item.lasting.steps == steps
    result = run_trial(setup, tmp_path)
    assert result.metrics["steps_trained"] == 18 + steps
    again = run_trial(setup_of(scratch()), tmp_path)
    assert again.metrics == result.metrics
    assert again.steps[0] == 0
    written = run_trial(setup_of(scratch(steps=f"{steps}it")), None)
    assert written.weights_sha256 == result.weights_sha256


def test_at_most_so_many_steps(setup_of: SetupOf) -> None:
    raw = scratch(steps={"same_flops_as": "train", "at_most": 1.5})
    assert run_trial(setup_of(raw), None).metrics["steps_trained"] == 18 + 27


def test_a_stretched_clock_passes_through_the_whole_schedule() -> None:
    line = resolve(read_space(scratch(steps="3ep"), "a test").only_recipe(), 9)
    rates = [line.rate(step) for step in range(27)]
    # The rate drops at a half and at three quarters of 18 steps; stretched over 27, at 13.5 and 20.25.
    drops = [step for step in range(1, 27) if rates[step] < rates[step - 1]]
    assert drops == [14, 21]
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("raw", "path", "message"),
    [
        (scratch(stretch=False), "retrain.stretch", "must be true with same_flops_as"),
        (scratch(clock={"hold": 0.1}), "retrain.stretch", "a held rate"),
        (early(latest="end-20ep"), "mask.at.latest", "before the beginning"),
        ({**early(), "rounds": 2}, "mask.at", "must be end with more than one round"),
    ],
)
def test_what_makes_no_sense_is_refused(raw: Blocks, path: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(read_space(raw, "a test").only_recipe(), 9)
    (problem,) = refused.value.problems
    assert problem.path == path
    assert message in problem.message


@pytest.mark.parametrize(
    ("mask", "path"),
    [
        ({"criterion": "movement"}, "mask.criterion"),
        ({"criterion": "edge-popup", "granularity": "weight"}, "mask.criterion"),
        ({"criterion": "all", "sparsity": 0}, "mask.criterion"),
        ({"prepare": "rising-penalty"}, "mask.prepare"),
    ],
)
def test_masks_that_cannot_be_looked_at_on_the_way_are_refused(mask: Blocks, path: str) -> None:
    raw = early()
    raw["mask"].update(mask)
    with pytest.raises(UserError) as refused:
        read_space(raw, "a test").only_recipe()
    assert path in [problem.path for problem in refused.value.problems]
