"""Trials whose networks lose layers: stored, taken up in the middle, verified, exported and loaded again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import prune_search
from prune_search import Where
from prune_search.exports.model_code import loading_code
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.tasks.fusion import RECORD
from prune_search.training.state_store import PreemptedError
from prune_search.trial.callbacks import Guarded, Silent
from prune_search.trial.run import Sharing, results_differ, run_trial
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
DIGITS = 64


def recipe(rounds: int = 2, **more: Any) -> dict[str, Any]:
    """Three narrow convolutions on digits, of which one more is fused in every round."""
    return {
        "preset": "fuse-init",
        "task": {"model": {"name": "narrow-conv", "channels": [3, 4, 5]}, "seed": 3},
        "train": {"steps": "8it", "batch": 50, "optimizer": {"name": "rmsprop", "lr": 0.002}, "schedule": "constant"},
        "weights": {"at": "end", "transform": [{"name": "fuse", "samples": 300}]},
        "rounds": rounds,
        **more,
    }


def test_each_round_fuses_the_last_layer_that_is_left(setup_of: SetupOf) -> None:
    result = run_trial(setup_of(recipe(3)), None)
    told = [[layer.fused_into for layer in item.receipt.layers] for item in result.rounds]
    assert told == [["", "", "fc", ""], ["", "fc", "fc", ""], ["fc", "fc", "fc", ""]]
    assert [item.receipt.parameters for item in result.rounds] == [
        # conv1 30 + 6, conv2 112 + 8, conv3 185 + 10, fc 80 · 10 + 10; then fc of 4x4x4, of 3x8x8, and of 1x8x8.
        (1161, 156 + 650),
        (1161, 36 + 1930),
        (1161, 650),
    ]
    assert [item.receipt.collapsed for item in result.rounds] == [0, 0, 0]
    assert [item.metrics["collapsed"] for item in result.rounds] == [0, 0, 0]
    assert [round(item.metrics["sparsity"], 4) for item in result.rounds] == [
        round(gone / (gone + left), 4) for gone, left in ((180, 27 + 108 + 640), (288, 27 + 1920), (315, 640))
    ]
    assert set(result.tensors) == {"fc.weight", "fc.bias", f"fc.{RECORD}"}
    assert result.tensors["fc.weight"].shape == (10, DIGITS)


def test_the_operations_of_training_are_those_of_the_layers_that_there_are(setup_of: SetupOf) -> None:
    result = run_trial(setup_of(recipe(1)), None)
    # Of 8 steps of 50 examples, 2 operations per weight and place: conv1 and conv2 at 64 places, conv3 at 16.
    dense = 2 * 400 * (27 * 64 + 108 * 64 + 180 * 16 + 800)
    after = 2 * 400 * (27 * 64 + 108 * 64 + 640)
    assert result.metrics["train/forward_flops_sparse"] == dense + after
    assert result.metrics["train/forward_flops_dense"] == 2 * dense


@pytest.mark.parametrize("stopped_at", [3, 11, 21])
def test_a_trial_that_is_stopped_goes_on_in_the_network_that_it_had(
    stopped_at: int, setup_of: SetupOf, tmp_path: Path
) -> None:
    asked = iter([False] * (stopped_at - 1) + [True])
    account = Sharing()
    with pytest.raises(PreemptedError):
        run_trial(setup_of(recipe()), tmp_path, Guarded(Silent(), lambda: next(asked)), sharing=account)
    resumed = run_trial(setup_of(recipe()), tmp_path)
    assert resumed.steps[0] == 24 - stopped_at
    assert results_differ(resumed.as_data(), run_trial(setup_of(recipe()), None).as_data()) == "exact"


def test_trials_share_what_comes_before_a_fusion_and_its_rounds(setup_of: SetupOf, tmp_path: Path) -> None:
    one, two = (run_trial(setup_of(recipe(rounds)), tmp_path) for rounds in (1, 2))
    assert (one.steps, two.steps) == ((16, 0, 0), (8, 16, 0))
    assert two.rounds[0].mask_sha256 == one.rounds[0].mask_sha256
    other = recipe(1)
    other["mask"] = {"sparsity": {"layers": 2}}
    both = run_trial(setup_of(other), tmp_path)
    assert both.steps == (8, 8, 0)
    assert [layer.fused_into for layer in both.receipt.layers] == ["", "fc", "fc", ""]


def test_a_random_start_of_the_same_depth_is_the_same_recipe_with_reinit(setup_of: SetupOf) -> None:
    fused = recipe(1)
    drawn = recipe(1)
    drawn["weights"] = {"at": "end", "transform": [{"name": "fuse", "samples": 300}, "reinit"]}
    one, two = run_trial(setup_of(fused), None), run_trial(setup_of(drawn), None)
    assert {name: tensor.shape for name, tensor in one.tensors.items()} == {
        name: tensor.shape for name, tensor in two.tensors.items()
    }
    assert one.masks.sha256 == two.masks.sha256
    assert one.weights_sha256 != two.weights_sha256


def test_a_fused_network_is_taught_by_the_dense_one_and_stops_early(setup_of: SetupOf) -> None:
    retrain = {"loss": {"name": "distillation", "teacher": "dense"}, "ema": 0.5}
    retrain["early_stopping"] = {"metric": "val/loss", "every": "2it", "patience": 1}
    result = run_trial(setup_of(recipe(2, retrain={"until": "end", "clock": "0it", **retrain})), None)
    assert result.receipt.parameters == (1161, 1966)
    assert all(bool(tensor.isfinite().all()) for tensor in result.tensors.values())


@pytest.mark.slow
def test_a_run_is_verified_exported_and_loaded(tmp_path: Path) -> None:
    folder, where = tmp_path / "run", Where(storage=tmp_path / "store")
    result = prune_search.run(recipe(), where=where, out=folder)
    inputs = torch.randn(5, 1, 8, 8)
    plain = prune_search.load(folder, where=where)
    wanted = plain.model(inputs)
    assert prune_search.verify(folder, where=where).verdict == "exact"

    exported = prune_search.export(str(folder), to=folder, where=where)
    assert exported.result.weights_sha256 == result.weights_sha256
    assert exported.costs["sizes"]["compact parameters"] <= 1966
    loaded = prune_search.load(folder)
    assert loaded.compact is not None
    for network in (loaded.model, loaded.compact):
        torch.testing.assert_close(network(inputs), wanted)
    # No layer is left there that does nothing.
    assert not any(name.startswith(("conv2", "conv3", "bn2", "bn3")) for name, _ in loaded.compact.named_modules())
    card = (folder / "README.md").read_text()
    assert "in `fc`" in card
    assert "the network has 1,966 parameters instead of 1,161" in card

    code = card.split("```python\n")[1].split("```")[0]
    code += "\nimport torch\nprint(model(torch.ones(1, 1, 8, 8)).tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert "prune_search" not in code
    found = torch.tensor(json.loads(done.stdout))
    torch.testing.assert_close(found, plain.model(torch.ones(1, 1, 8, 8)), rtol=1e-4, atol=1e-5)


def test_networks_of_ones_own_are_loaded_by_code_that_brings_them_into_shape(setup_of: SetupOf) -> None:
    result = run_trial(setup_of(recipe(1)), None)
    own = {**result.recipe.canonical, "task": {**result.recipe.task.written, "model": "my.nets:Holder.make"}}
    code = loading_code(Recipe.from_canonical(own), result.tensors)
    assert "restructured(model, weights)" in code
    assert "from prune_search.tasks.fusion import restructured" in code
    compile(code.replace("(...)", "()"), "code", "exec")


def test_a_pruned_network_of_fused_layers_can_be_begun_with(setup_of: SetupOf, tmp_path: Path) -> None:
    prune_search.run(recipe(1), where=Where(storage=tmp_path / "store"), out=tmp_path / "run")
    raw = recipe(1)
    del raw["preset"]
    raw["train"] = {"from": str(tmp_path / "run" / "model.safetensors"), "batch": 50}
    raw["mask"] = {"at": "end", "criterion": "magnitude", "sparsity": 0.5}
    raw["weights"], raw["retrain"] = {"at": "end"}, {"steps": "2it", "clock": {"hold": 0.01}}
    result = run_trial(setup_of(raw), None)
    left = [layer.name for layer in result.receipt.layers if not layer.fused_into]
    assert left == ["conv1.weight", "conv2.weight", "fc.weight"]
    assert result.receipt.units_kept == result.receipt.units_asked == (27 + 108 + 640 + 1) // 2


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"mask": {"sparsity": {"layers": 2}}, "rounds": 2}, "mask.sparsity.layers", "more layers than the 3 that can be"),
    ({"task": {"model": "resnet-20"}, "rounds": 1}, "weights.transform", "cannot be fused into the layer after it"),
]


@pytest.mark.parametrize(("change", "path", "told"), WRONG)
def test_what_cannot_be_fused_is_refused_before_anything_is_trained(
    change: dict[str, Any], path: str, told: str, setup_of: SetupOf
) -> None:
    account = Sharing()
    with pytest.raises(UserError) as error:
        run_trial(setup_of({**recipe(), **change}), None, sharing=account)
    assert [problem.path for problem in error.value.problems] == [path]
    assert told in error.value.problems[0].message
    assert account.steps.trained == 0


RULES: list[tuple[dict[str, Any], str]] = [
    ({"weights": {"at": "4it", "transform": ["fuse"]}}, "weights.at"),
    ({"mask": {"sparsity": 0.5}}, "mask.sparsity"),
    ({"mask": {"granularity": "filter", "criterion": "l1", "sparsity": 0.5}, "rounds": 1}, "weights.transform.0"),
    ({"mask": {"scope": "uniform"}}, "mask.scope"),
    ({"retrain": {"steps": {"same_flops_as": "train"}, "clock": {"hold": 0.1}}, "rounds": 1}, "retrain.steps"),
    ({"retrain": {"loss": {"name": "distillation", "features": "last"}}}, "retrain.loss.features"),
]


@pytest.mark.parametrize(("change", "path"), RULES)
def test_combinations_that_make_no_sense_are_refused(change: dict[str, Any], path: str, setup_of: SetupOf) -> None:
    with pytest.raises(UserError) as error:
        setup_of({**recipe(), **change})
    assert path in [problem.path for problem in error.value.problems]


@pytest.mark.slow
def test_a_fused_start_has_a_smaller_loss_than_a_random_one_of_the_same_depth(setup_of: SetupOf) -> None:
    """On digits, for ten seeds: the validation loss before the shallower network is trained at all."""
    better = 0
    for seed in range(10):
        losses = []
        for more in ([], ["reinit"]):
            raw = recipe(1, retrain="none")
            raw["task"] = {"model": {"name": "narrow-conv", "channels": [4, 8, 16, 32]}, "seed": seed}
            raw["train"] = {**raw["train"], "steps": "5ep"}
            raw["weights"] = {"at": "end", "transform": ["fuse", *more]}
            losses.append(run_trial(setup_of(raw), None).metrics["val/loss"])
        better += losses[0] < losses[1]
    assert better >= 9
