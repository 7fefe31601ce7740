"""What is stored spares training and changes nothing: neither bits nor figures."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trials import EPOCH, SMALL, Blocks, SetupOf, blocks, gradual, greg, growing, hashes, renda, scored

from prune_search.storage.tensors import save_tensors
from prune_search.trial.errors import TrialError
from prune_search.trial.result import Result
from prune_search.trial.run import run_trial

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


# What the others show too, one choice after the other.
SHOWN_BY_OTHERS = {"dense", "magnitude-after-training", "learning-rate-rewinding", "force", "greg-1", "gradual"} | {
    "scratch-e",
    "late-rewinding",
}


def figures(result: Result) -> Any:
    return (*hashes(result), result.metrics, [(item.metrics, item.mask_sha256) for item in result.rounds])


@pytest.mark.parametrize(
    "trial", [pytest.param(name, marks=pytest.mark.slow if name in SHOWN_BY_OTHERS else ()) for name in TRIALS]
)
def test_a_result_does_not_depend_on_what_was_stored(setup_of: SetupOf, tmp_path: Path, trial: str) -> None:
    raw = TRIALS[trial]
    nowhere = run_trial(setup_of(raw), None)
    first, second = run_trial(setup_of(raw), tmp_path), run_trial(setup_of(raw), tmp_path)
    assert figures(nowhere) == figures(first) == figures(second)
    assert nowhere.steps == first.steps
    assert first.steps[1] == 0
    assert second.steps == (0, first.steps[0], 0)
    assert first.metrics["steps_trained"] == first.steps[0]
    assert all(bool((first.tensors[name][~mask] == 0).all()) for name, mask in first.masks.items())


def test_an_early_end_is_early(setup_of: SetupOf) -> None:
    """So that the trial above is what its name says."""
    steps = [run_trial(setup_of(TRIALS[name]), None).steps[0] for name in ("greg-1", "greg-1, ended early")]
    assert steps[0] - steps[1] == 12


@pytest.mark.parametrize("lost", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_trial_that_lost_part_of_its_states_finds_the_same_result(
    setup_of: SetupOf, tmp_path: Path, lost: int
) -> None:
    """Whichever segments are gone, what is left is used and the rest is trained again."""
    raw = TRIALS["two transforms in two rounds"]
    whole = run_trial(setup_of(raw), tmp_path)
    homes = sorted(path.parent for path in tmp_path.glob("vertices/*/*/step-*"))
    draw = torch.Generator().manual_seed(lost)
    for home in sorted(set(homes)):
        if float(torch.rand((), generator=draw)) < 0.5:
            home.rename(tmp_path / f"lost-{home.name}")
    again = run_trial(setup_of(raw), tmp_path)
    assert hashes(again) == hashes(whole)
    assert again.steps[0] <= whole.steps[0]


def test_trials_of_different_rounds_share_those_that_they_have_in_common(setup_of: SetupOf, tmp_path: Path) -> None:
    two = run_trial(setup_of(blocks("lottery-ticket", rounds=2)), tmp_path)
    three = run_trial(setup_of(blocks("lottery-ticket", rounds=3)), tmp_path)
    length = 2 * EPOCH
    assert (two.steps, three.steps) == ((3 * length, 0, 0), (length, 3 * length, 0))
    assert [item.mask_sha256 for item in three.rounds[:2]] == [item.mask_sha256 for item in two.rounds]
    assert three.metrics["steps_trained"] == 4 * length
    assert hashes(three) == hashes(run_trial(setup_of(blocks("lottery-ticket", rounds=3)), None))


def test_trials_of_different_paradigms_share_their_first_training(setup_of: SetupOf, tmp_path: Path) -> None:
    run_trial(setup_of(blocks("fine-tune", retrain={"steps": "4it"})), tmp_path)
    late = run_trial(setup_of(renda("weight-rewinding", 5)), tmp_path)
    assert late.steps == (5, 18, 0)  # w(13) is one of the stored ones
    assert hashes(late) == hashes(run_trial(setup_of(renda("weight-rewinding", 5)), None))


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
def test_what_changes_the_first_training_shares_nothing(setup_of: SetupOf, tmp_path: Path, change: Blocks) -> None:
    run_trial(setup_of(blocks("magnitude-after-training", retrain={"steps": "2it"})), tmp_path)
    other = blocks("magnitude-after-training", retrain={"steps": "2it"}, **change)
    stored, nowhere = run_trial(setup_of(other), tmp_path), run_trial(setup_of(other), None)
    assert stored.steps[1] == 0
    assert figures(stored) == figures(nowhere)


BASES: dict[str, Blocks] = {
    "magnitude": blocks("magnitude-after-training", mask={"sparsity": 0.8}, retrain={"steps": "4it"}),
    "snip": blocks("snip", conv=True, mask={"sparsity": 0.6}),
    "rounds": blocks("lottery-ticket", rounds=2),
    "greg": greg("greg-2"),
    "gradual": gradual(),
}
# What one trial has and the other has not: the key, and its other value.
CHANGES: list[tuple[str, str, Any]] = [
    ("magnitude", "retrain.optimizer", {"lr": 0.05, "momentum": 0.5}),
    ("magnitude", "retrain.clock", {"hold": 0.02}),
    ("magnitude", "retrain.clock", "end-4it"),
    ("magnitude", "retrain.steps", "3it"),
    ("magnitude", "mask.sparsity", 0.81),
    ("magnitude", "mask.scope", "uniform"),
    ("magnitude", "mask.criterion", "random"),
    ("magnitude", "mask.control", "shuffle"),
    ("magnitude", "mask.at", "9it"),
    ("magnitude", "weights.at", "9it"),
    ("magnitude", "weights.transform", ["reinit"]),
    ("snip", "mask.granularity", "filter"),
    ("snip", "mask.score", {"batches": 2}),
    ("snip", "mask.score", {"mode": "eval"}),
    ("snip", "mask.score", {"iterations": 2}),
    ("snip", "weights.transform", ["batchnorm-recalibrate"]),
    ("rounds", "mask.sparsity", {"final": 0.5}),
    ("rounds", "mask.control", "invert"),
    ("rounds", "weights.at", "3it"),
    ("rounds", "rounds", 3),
    ("greg", "weights.transform", [growing(step=0.2, kept=-0.001)]),
    ("greg", "weights.transform", [growing(kept=-0.001), "reinit"]),
    ("greg", "mask.prepare.until", 0.07),
    ("greg", "weights.at", "end"),
    ("gradual", "retrain.dynamics.every", "3it"),
    ("gradual", "retrain.dynamics.path", "linear"),
    ("gradual", "mask.sparsity", 0.8),
    ("gradual", "mask.control", "shuffle"),
]


def changed(raw: Blocks, key: str, value: Any) -> Blocks:
    *parents, last = key.split(".")
    result = copy.deepcopy(raw)
    node = result
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return result


@pytest.mark.parametrize(
    ("base", "key", "value"),
    # Of the values of one block every third is changed always; what is new here is new in all of them.
    [pytest.param(*change, marks=pytest.mark.slow if index % 3 else ()) for index, change in enumerate(CHANGES)],
)
def test_trials_that_differ_in_one_value_do_not_get_each_other_s_states(
    setup_of: SetupOf, tmp_path: Path, base: str, key: str, value: Any
) -> None:
    one, other = BASES[base], changed(BASES[base], key, value)
    first, second = run_trial(setup_of(one), tmp_path), run_trial(setup_of(other), tmp_path)
    assert hashes(second) == hashes(run_trial(setup_of(other), None))
    assert hashes(first) != hashes(second)


def test_trials_of_two_seeds_on_the_same_given_weights_do_not_share_either(setup_of: SetupOf, tmp_path: Path) -> None:
    file = tmp_path / "given.safetensors"
    save_tensors(file, dict(run_trial(setup_of(BASES["magnitude"]), None).tensors))
    raw = changed(BASES["magnitude"], "train.from", str(file))
    first, second = (run_trial(setup_of(changed(raw, "task.seed", seed)), tmp_path / "store") for seed in (1, 2))
    assert second.steps == (4, 0, 0)
    assert first.weights_sha256 != second.weights_sha256


def test_a_run_leaves_the_random_state_and_the_threads_of_its_caller_alone(setup_of: SetupOf) -> None:
    raw = blocks("snip")
    raw["train"] = {"steps": "2it", "threads": 2}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    run_trial(setup_of(raw), None)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.get_num_threads() == 1


def test_a_trial_that_diverges_says_so_and_stores_nothing_of_it(setup_of: SetupOf, tmp_path: Path) -> None:
    raw = blocks("fine-tune", retrain={"steps": "4it"})
    raw["train"] = {"steps": "2ep", "optimizer": {"lr": 1e30}}
    for _ in range(2):
        with pytest.raises(TrialError, match="the loss is") as failed:
            run_trial(setup_of(raw), tmp_path)
        assert failed.value.kind == "nan"
    assert list(tmp_path.glob("vertices/*/*/step-*")) == []
