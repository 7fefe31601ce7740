"""Trials that are trained as people do it: what each option does to a trial, and that a stop never shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks.network import prunable_weights
from prune_search.training.state_store import PreemptedError, StateStore, Steps
from prune_search.trial.callbacks import Guarded, Observation, Silent
from prune_search.trial.how_trained import check_teaching, retraining_network, training_network
from prune_search.trial.metrics import validation_figure
from prune_search.trial.result import Result
from prune_search.trial.rounds import rounds_of
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
STOPPING = {"every": "2it", "patience": 2}
EVERYTHING = {
    **{"clip": 0.5, "accumulate": 2, "label_smoothing": 0.1, "decay_norms": False, "layer_decay": 0.8, "ema": 0.7},
    **{"warmup": "3it", "early_stopping": STOPPING},
}
# A rate at which nothing gets better, so that training stops after the first evaluation and its patience.
STILL = {"optimizer": {"lr": 1e-12}, "early_stopping": {"every": "1it", "patience": 2, "metric": "val/accuracy"}}


def recipe(
    train: Mapping[str, Any] | None = None, retrain: Mapping[str, Any] | None = None, **blocks: Any
) -> dict[str, Any]:
    return {
        "preset": "magnitude-after-training",
        "task": {"model": {"name": "mlp", "hidden": [8, 8]}},
        "train": {"steps": "8it", "batch": 50, **(train or {})},
        "retrain": {"steps": "6it", "clock": {"hold": 0.05}, **(retrain or {})},
        **blocks,
    }


def moving(train: Mapping[str, Any], **retrain: Any) -> dict[str, Any]:
    dynamics = {"name": "gradual", "from": "0it", "until": "4it", "every": "2it"}
    return {
        **recipe(train),
        "preset": "gradual-magnitude",
        "retrain": {"until": "end", "dynamics": dynamics, **retrain},
    }


def trained(setup_of: SetupOf, raw: Mapping[str, Any], storage: Path | None = None) -> Result:
    return run_trial(setup_of(raw), storage)


def test_every_option_changes_what_is_trained(setup_of: SetupOf) -> None:
    raw = [recipe(), *(recipe({key: value}) for key, value in EVERYTHING.items() if key not in ("early_stopping",))]
    raw += [recipe(STILL), recipe({}, {"loss": "distillation"}), recipe({}, {"warmup": "3it"})]
    raw += [recipe({"optimizer": {"name": "muon"}})]
    found = [trained(setup_of, one) for one in raw]
    assert len({one.weights_sha256 for one in found}) == len(raw) == len({one.key for one in found})


@pytest.mark.parametrize("raw", [recipe(EVERYTHING, {"loss": "distillation"}), moving(EVERYTHING, loss="distillation")])
def test_a_trial_that_is_stopped_again_and_again_ends_with_the_same_bits(
    setup_of: SetupOf, tmp_path: Path, raw: dict[str, Any]
) -> None:
    whole = trained(setup_of, raw)
    steps = []
    for _ in range(40):
        asked = iter((False, False, True))
        try:
            result = run_trial(setup_of(raw), tmp_path, Guarded(Silent(), partial(next, asked, False)))
        except PreemptedError:
            steps.append(3)
            continue
        break
    assert len(steps) > 2
    assert (result.weights_sha256, result.masks.sha256) == (whole.weights_sha256, whole.masks.sha256)
    assert result.rounds[-1].metrics == whole.rounds[-1].metrics


def test_training_that_stopped_early_counts_the_steps_that_it_took(setup_of: SetupOf, tmp_path: Path) -> None:
    raw = recipe(STILL, {"early_stopping": "none"})
    first, second = (trained(setup_of, raw, tmp_path) for _ in range(2))
    assert first.rounds[0].metrics["steps_trained"] == 3 + 6
    assert (first.steps, second.steps) == ((9, 0, 0), (0, 9, 0))
    assert first.as_data()["weights_sha256"] == second.as_data()["weights_sha256"]


def test_a_place_after_an_early_end_is_the_end(setup_of: SetupOf, tmp_path: Path) -> None:
    trained(setup_of, recipe(STILL, {"early_stopping": "none"}), tmp_path)
    mask = {"at": "5it", "criterion": "magnitude", "sparsity": 0.5}
    later = recipe(STILL, {"early_stopping": "none"}, mask=mask, weights={"at": "6it"})
    assert trained(setup_of, later, tmp_path).steps == (6, 3, 0)
    assert trained(setup_of, later, tmp_path).weights_sha256 == trained(setup_of, later).weights_sha256


def test_the_best_state_is_the_result_and_has_its_mask(setup_of: SetupOf) -> None:
    # Rates that destroy the network again, so that the best state is not the last one.
    rates = {"name": "step", "at": ["3it"], "rates": [0.05, 20.0]}
    stopping = {"every": "1it", "patience": 20}
    raw = recipe({}, {"steps": "8it", "clock": None, "schedule": rates, "early_stopping": stopping})
    del raw["retrain"]["clock"]
    setup = setup_of(raw)
    result = run_trial(setup, None)
    best = result.rounds[-1].metrics["val/loss"]
    ends = []
    for steps in range(1, 9):
        shorter = {key: value for key, value in raw["retrain"].items() if key != "early_stopping"}
        ends.append(trained(setup_of, {**raw, "retrain": {**shorter, "steps": f"{steps}it"}}).rounds[-1].metrics)
    assert best == min(one["val/loss"] for one in ends)
    assert best < ends[-1]["val/loss"]
    weights = prunable_weights(setup.model)
    assert all((weights[name][~mask] == 0).all() for name, mask in result.masks.items())
    assert validation_figure(setup, "val/loss") == best


def test_no_state_before_the_asked_sparsity_is_the_best_one(setup_of: SetupOf) -> None:
    raw = moving({"early_stopping": {"every": "1it", "patience": 1}})
    result = trained(setup_of, raw)
    assert result.receipt.reached == pytest.approx(0.9, abs=0.01)


def test_an_average_keeps_the_mask_and_is_what_is_measured_on_the_way(setup_of: SetupOf) -> None:
    class Watching(Silent):
        def __init__(self) -> None:
            self.seen: dict[int, Mapping[str, float]] = {}

        def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
            return (4,)

        def observed(self, seen: Observation) -> None:
            self.seen[seen.step] = seen.metrics

    sink = Watching()
    setup = setup_of(recipe({"ema": 0.6}))
    result = run_trial(setup, None, sink)
    short = trained(setup_of, recipe({"ema": 0.6}, {"steps": "4it"}))
    assert sink.seen[4]["val/loss"] == pytest.approx(short.rounds[-1].metrics["val/loss"], rel=1e-6)
    weights = prunable_weights(setup.model)
    assert all((weights[name][~mask] == 0).all() for name, mask in result.masks.items())
    assert result.receipt.reached == pytest.approx(0.9, abs=0.01)


def test_averages_of_a_moved_mask_have_the_last_mask(setup_of: SetupOf) -> None:
    setup = setup_of(moving({"ema": 0.9}))
    result = run_trial(setup, None)
    weights = prunable_weights(setup.model)
    assert result.receipt.reached == pytest.approx(0.9, abs=0.01)
    assert all((weights[name][~mask] == 0).all() for name, mask in result.masks.items())


def test_what_a_retraining_says_for_itself_leaves_the_shared_training_alone(setup_of: SetupOf, tmp_path: Path) -> None:
    assert trained(setup_of, recipe(), tmp_path).steps == (14, 0, 0)
    for own in ({"clip": 0.1}, {"ema": 0.5}, {"layer_decay": 0.5}, {"loss": "distillation"}, {"warmup": "2it"}):
        assert trained(setup_of, recipe({}, own), tmp_path).steps == (6, 8, 0), own
    assert trained(setup_of, recipe({"clip": 0.1}), tmp_path).steps == (14, 0, 0)
    roots = {setup_of(recipe({key: value})).root() for key, value in EVERYTHING.items()}
    assert len({*roots, setup_of(recipe()).root()}) == len(EVERYTHING) + 1


def test_a_teacher_is_trained_once_for_all_that_it_teaches(setup_of: SetupOf, tmp_path: Path) -> None:
    loss: dict[str, Any] = {"name": "distillation", "temperature": 3.0, "features": "last"}
    raw = {"preset": "snip", "task": recipe()["task"], "train": recipe()["train"]}
    retrain = {"until": "end", "clock": "0it"}
    first = trained(setup_of, {**raw, "retrain": {**retrain, "loss": loss}}, tmp_path)
    assert first.steps == (16, 0, 0)
    assert first.rounds[-1].metrics["steps_trained"] == 16
    second = trained(setup_of, {**raw, "retrain": {**retrain, "loss": {**loss, "weight": 0.9}}}, tmp_path)
    assert second.steps == (8, 8, 0)
    assert first.weights_sha256 != second.weights_sha256
    assert trained(setup_of, {**raw, "retrain": {**retrain, "loss": loss}}).weights_sha256 == first.weights_sha256


def test_a_network_that_is_told_what_it_says_itself_learns_nothing_from_it(setup_of: SetupOf) -> None:
    """Nothing pruned, and the teacher alone: its own outputs are the optimum, so that the weights stay."""
    loss = {"name": "distillation", "weight": 1.0}
    mask = {"at": "end", "criterion": "magnitude", "sparsity": 0.0}
    still = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    setup = setup_of(recipe({}, {"loss": loss, "optimizer": {"name": "sgd", **still}}, mask=mask))
    first, rounds = rounds_of(setup, StateStore(None, Steps()))
    dense = first.end().tensors
    for name, tensor in rounds[0].result.items():
        if name in dense:
            torch.testing.assert_close(tensor, dense[name], rtol=0, atol=1e-6)


def test_each_training_has_its_own_loss(setup_of: SetupOf) -> None:
    setup = setup_of(recipe({"label_smoothing": 0.2}, {"label_smoothing": 0.0, "loss": "distillation"}))
    outputs, labels = torch.randn(4, 10), torch.tensor([1, 2, 3, 4])
    smooth = torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=0.2)
    plain = torch.nn.functional.cross_entropy(outputs, labels)
    assert torch.equal(training_network(setup).loss(outputs, labels), smooth)
    assert torch.equal(setup.network.loss(outputs, labels), plain)
    taught = retraining_network(setup)
    assert taught.teaching is not None
    assert torch.equal(taught.teaching.task(outputs, labels), plain)


def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_trained(setup_of: SetupOf) -> None:
    setup = setup_of(recipe({}, {"loss": "distillation"}))
    check_teaching(setup)
    before = {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 7))
    setup.__dict__["teacher"] = other
    with pytest.raises(UserError, match=r"retrain.loss.teacher: the teacher's outputs are \[50, 7\]"):
        check_teaching(setup)
    assert all(torch.equal(before[name], tensor) for name, tensor in setup.model.state_dict().items())
