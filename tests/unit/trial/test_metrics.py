"""In the middle of a retraining a network is measured as at its end, and its training takes no notice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from arrays import arrays
from plugin_metrics import registered

from prune_search.recipe.facts import Metric
from prune_search.recipe.problems import UserError
from prune_search.tasks.metrics import Measured, evaluate
from prune_search.trial.callbacks import Observation, Silent
from prune_search.trial.metrics import check_asked
from prune_search.trial.result import Result
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
VALIDATION = {"val/accuracy", "val/loss"}
FORWARD, BACKWARD = "train/forward_flops_sparse", "train/backward_flops_sparse"
DENSE = "train/forward_flops_dense"


class Watching(Silent):
    """Wants the network measured after every third step."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        return range(3, total, 3)

    def observed(self, seen: Observation) -> None:
        self.seen.append(seen)


def small(preset: str, **more: Any) -> dict[str, Any]:
    task = {"model": {"name": "mlp", "hidden": [8]}, "seed": 3}
    return {"preset": preset, "task": task, "train": {"steps": "2ep"}, "mask": {"sparsity": 0.8}, **more}


def moving(dynamics: str, **options: Any) -> dict[str, Any]:
    retrain = {"until": "end", "dynamics": {"name": dynamics, "drop": 0.3, "every": "3it", "until": "12it", **options}}
    return small(dynamics, retrain=retrain)


def watched(setup: TrialSetup, asked: Collection[str] = ()) -> tuple[Result, list[Observation]]:
    sink = Watching()
    result = run_trial(setup, None, sink, asked=asked)
    assert len(sink.seen) >= 5
    return result, sink.seen


def test_a_search_that_names_nothing_else_gets_accuracy_and_loss_alone(setup_of: SetupOf) -> None:
    setup = setup_of(small("snip"))
    found: list[dict[str, float]] = []

    class Evaluating(Watching):
        def observed(self, seen: Observation) -> None:
            found.append(
                {f"val/{key}": value for key, value in evaluate(setup.model, arrays(setup.data).validation).items()}
            )
            super().observed(seen)

    sink = Evaluating()
    run_trial(setup, None, sink, asked=["val/accuracy"])
    assert [dict(seen.metrics) for seen in sink.seen] == found
    assert set(found[0]) == VALIDATION


def test_what_is_named_is_measured_too_where_it_can_be(setup_of: SetupOf) -> None:
    asked = ["sparsity", "collapsed", "steps_trained", DENSE, "latency/batch-1"]
    result, seen = watched(setup_of(small("snip")), asked)
    for one in seen:
        assert set(one.metrics) == VALIDATION | set(asked) - {"latency/batch-1"}
        # A mask that stays is as sparse in the middle as at the end.
        assert one.metrics["sparsity"] == result.metrics["sparsity"]
        assert one.metrics["steps_trained"] == one.steps_trained == one.step
        share = one.step / result.metrics["steps_trained"]
        assert one.metrics[DENSE] == pytest.approx(share * result.metrics[DENSE], rel=1e-12)


def test_training_data_are_measured_where_they_are_asked_for_and_only_of_finished_networks(setup_of: SetupOf) -> None:
    asked = ("train/accuracy", "val/accuracy")
    setup = setup_of(small("snip"))
    result, seen = watched(setup, asked)
    assert set(result.metrics) >= {"train/accuracy", "val/accuracy"}
    assert "train/loss" not in result.metrics
    assert all("train/accuracy" not in observation.metrics for observation in seen)
    expected = evaluate(setup.model, setup.data.train)  # type: ignore[arg-type]
    assert result.metrics["train/accuracy"] == expected["accuracy"]
    assert result.metrics["train/accuracy"] != result.metrics["val/accuracy"]
    plain, _ = watched(setup_of(small("snip")))
    assert not any(name.startswith("train/") and "flops" not in name for name in plain.metrics)
    assert plain.weights_sha256 == result.weights_sha256


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_layers_that_another_one_stands_for_are_so_in_the_middle_too(setup_of: SetupOf, ema: float) -> None:
    blocks = small("fuse-init", mask={"sparsity": {"layers": 1}}, rounds=1, train={"steps": "2ep", "batch": 64})
    raw = {**blocks, "retrain": {"until": "end", "clock": "0it", "ema": ema}}
    asked = ["sparsity", "sparsity/all_parameters", "collapsed"]
    result, seen = watched(setup_of(raw), asked)
    assert result.metrics["collapsed"] == 0
    for one in seen:
        assert {name: one.metrics[name] for name in asked} == {name: result.metrics[name] for name in asked}


def test_training_data_without_an_end_are_not_measured() -> None:
    setup = SimpleNamespace(data=SimpleNamespace(train=[], target="classes", metrics=("accuracy",)))
    check_asked(setup, ["val/accuracy"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="train/loss needs a pass over the training data"):
        check_asked(setup, ["train/loss"])  # type: ignore[arg-type]


def test_probabilities_of_classes_are_not_measured_where_there_are_none() -> None:
    setup = SimpleNamespace(data=SimpleNamespace(train=[0], target="numbers", metrics=("r2", "nll")))
    check_asked(setup, ["val/r2", "val/nll"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="val/ece needs probabilities of classes"):
        check_asked(setup, ["val/ece"])  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [small("snip"), moving("set"), small("magnitude-after-training")], ids=str)
def test_operations_grow_with_every_step_by_what_the_mask_leaves(setup_of: SetupOf, raw: dict[str, Any]) -> None:
    result, seen = watched(setup_of(raw), [FORWARD, BACKWARD])
    step = 2 * 128 * sum(int(mask.sum()) for mask in result.masks.values())
    left = [(result.metrics["steps_trained"] - one.steps_trained) * step for one in seen]
    for one, still in zip(seen, left, strict=True):
        assert one.metrics[FORWARD] + still == pytest.approx(result.metrics[FORWARD], rel=1e-9)
        assert one.metrics[BACKWARD] + 2 * still == pytest.approx(result.metrics[BACKWARD], rel=1e-9)


def test_the_operations_of_a_mask_that_is_tightened_lead_to_those_at_the_end(setup_of: SetupOf) -> None:
    dynamics = {"name": "gradual", "from": "2it", "until": "9it", "every": "1it"}
    result, seen = watched(
        setup_of(small("gradual-magnitude", retrain={"until": "end", "dynamics": dynamics})), [FORWARD, "sparsity"]
    )
    figures = [one.metrics[FORWARD] for one in seen]
    assert figures == sorted(figures)
    step = 2 * 128 * sum(int(mask.sum()) for mask in result.masks.values())
    ripe = [one for one in seen if one.mature >= 0]
    assert ripe
    for one in ripe:
        still = (result.metrics["steps_trained"] - one.steps_trained) * step
        assert one.metrics[FORWARD] + still == pytest.approx(result.metrics[FORWARD], rel=1e-9)
        assert one.metrics["sparsity"] == result.metrics["sparsity"]
    # On its way it is told as it is, and not as it was asked for.
    growing = [one.metrics["sparsity"] for one in seen if one.mature < 0]
    assert growing
    assert max(growing) < result.metrics["sparsity"]


def test_a_metric_of_ones_own_that_spoils_the_network_it_is_given_does_not_touch_the_training(
    setup_of: SetupOf,
) -> None:
    def spoiled(measured: Measured) -> float:
        model = measured.model
        assert model is not None
        found = float(sum(parameter.detach().abs().sum() for parameter in model.parameters()))
        with torch.no_grad():
            for parameter in model.eval().parameters():
                parameter.zero_()
        torch.rand(7)
        return found

    plain = run_trial(setup_of(small("snip")), None)
    with registered("val/size", spoiled, Metric(split="validation")) as name:
        sink = Watching()
        result = run_trial(setup_of(small("snip")), None, sink)
    assert result.weights_sha256 == plain.weights_sha256
    assert all(one.metrics[name] > 0 for one in sink.seen)
    assert len({one.metrics[name] for one in sink.seen}) == len(sink.seen)
