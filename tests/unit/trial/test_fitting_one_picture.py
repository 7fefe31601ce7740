"""A network that is fitted to one picture: what it sees, which criteria prune it, and its preset from run to export."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import prune_search
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds.one_picture import Degraded, picture_task
from prune_search.tasks.task import Task
from prune_search.trial.errors import TrialError

CLEAN = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
HOW = Degraded(sigma=0.1, keep=0.9, held_out=0.2, inputs=4, seed=0)
SMALL = {"name": "skip-net", "channels": 6}


def recipe(criterion: str = "magnitude", **changed: Any) -> dict[str, Any]:
    at = changed.pop("at", "end")
    options = {"steps": "3it"} if "steps" in CRITERIA[criterion].options else {}
    granularities = CRITERIA[criterion].facts.granularities
    mask = {"at": at, "criterion": {"name": criterion, **options}, "sparsity": 0.5, "scope": "global"}
    if granularities is not None and "weight" not in granularities:
        mask["granularity"] = granularities[0]
    return {
        "schema": 1,
        "task": {"data": {"name": "denoise", "size": 16, "inputs": 4}, "model": SMALL},
        "train": {"steps": "6it", "batch": 1, "optimizer": {"name": "adam", "lr": 0.01}},
        "mask": mask,
        "weights": {"at": "0it"},
        "retrain": {"until": "end"},
        **changed,
    }


def of_clean(clean: Tensor) -> Callable[[], Task]:
    return lambda: picture_task("mine", clean, True, HOW)


@pytest.mark.parametrize(("criterion", "at"), [("magnitude", "end"), ("snip", "0it"), ("gumbel", "0it")])
def test_no_held_out_or_missing_pixel_has_an_effect_on_masks_or_weights(
    criterion: str, at: str, tmp_path: Path
) -> None:
    """Perturbed before the task is made of it, the picture trains the same network bit for bit."""
    seen = picture_task("mine", CLEAN, True, HOW).train[1][0] != -100.0
    assert 0.6 < float(seen.float().mean()) < 0.8
    other = torch.where(seen, CLEAN, 1.0 - CLEAN)
    here, there = (
        prune_search.run(
            recipe(criterion, at=at, task={"model": SMALL}),
            where=prune_search.Where(storage=tmp_path / name, data=of_clean(clean)),
        )
        for name, clean in (("here", CLEAN), ("there", other))
    )
    assert here.key != there.key
    assert here.masks.sha256 == there.masks.sha256
    assert here.weights_sha256 == there.weights_sha256
    assert here.metrics["val/psnr"] != there.metrics["val/psnr"]
    # Of a pixel that is seen the same is not true.
    third = torch.where(seen, 1.0 - CLEAN, CLEAN)
    where = prune_search.Where(storage=tmp_path / "third", data=of_clean(third))
    assert prune_search.run(recipe(criterion, at=at, task={"model": SMALL}), where=where).weights_sha256 != (
        here.weights_sha256
    )


def test_a_network_that_makes_pictures_is_refused_for_classes(tmp_path: Path) -> None:
    written = recipe(task={"data": "digits", "model": {"name": "skip-net", "scales": 1}})
    with pytest.raises(UserError, match=r"task.model: skip-net outputs pictures, but digits needs classes"):
        prune_search.run(written, where=prune_search.Where(storage=tmp_path))


def test_the_inputs_noise_is_training_s_alone(tmp_path: Path) -> None:
    where = prune_search.Where(storage=tmp_path)
    plain, noisy = (
        prune_search.run(recipe(), set={"train.augment": augment}, where=where)
        for augment in ("none", {"name": "gaussian-noise", "std": 0.03})
    )
    assert plain.weights_sha256 != noisy.weights_sha256
    assert prune_search.run(recipe(), set={"train.augment": "gaussian-noise"}, where=where).metrics["val/psnr"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in CRITERIA.items() if not entry.facts.keeps_all])
def test_every_criterion_scores_by_the_task_s_own_loss_or_says_why_not(name: str, tmp_path: Path) -> None:
    where = prune_search.Where(storage=tmp_path)
    absent = {"expert": "experts", "depth": "residual blocks"}
    lacking = next((absent[one] for one in CRITERIA[name].facts.granularities or () if one in absent), None)
    if lacking is not None:
        with pytest.raises(UserError, match=f"this network has no {lacking}"):
            prune_search.run(recipe(name, at="0it"), set={"task.model.sigmoid": False}, where=where)
        return
    result = prune_search.run(recipe(name, at="0it"), set={"task.model.sigmoid": False}, where=where)
    assert 0.1 < result.receipt.reached < 0.8
    assert math.isfinite(result.metrics["test/psnr"])


def test_synflow_says_that_it_sees_nothing_through_a_sigmoid(tmp_path: Path) -> None:
    with pytest.raises((UserError, TrialError), match="the synaptic flow of every weight is 0"):
        prune_search.run(
            recipe("synflow", at="0it"),
            set={"task.model.channels": 32, "task.model.scales": 3, "task.data.size": 32},
            where=prune_search.Where(storage=tmp_path),
        )


@pytest.mark.slow
def test_the_preset_runs_is_taken_up_and_exported_and_comes_out_again(tmp_path: Path) -> None:
    where = prune_search.Where(storage=tmp_path / "store")
    small = {"task.data.size": 16, "task.data.inputs": 4, "task.model": SMALL, "train.steps": "6it", "rounds": 2}
    first = prune_search.run("deep-inverse-prior", set=small, where=where, out=tmp_path / "out")
    assert first.receipt.reached == pytest.approx(0.36, abs=0.01)
    assert {"val/psnr", "val/loss", "test/psnr", "test/loss"} <= set(first.metrics)
    # One round more goes on from those that are stored.
    more = prune_search.run("deep-inverse-prior", set={**small, "rounds": 3}, where=where)
    assert more.steps[0] == 6
    assert prune_search.verify(tmp_path / "out", where=where).verdict == "exact"
    made = prune_search.export(str(tmp_path / "out"), tmp_path / "exported", where=where)
    network = prune_search.load(made.folder).network()
    given = picture_task("x", CLEAN, True, HOW).train[0]
    assert network(given).shape == (1, 3, 16, 16)
