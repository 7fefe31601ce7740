"""An initializer that measures, and the weight decay that is made of what it finds, in a whole trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.storage.places import place_of
from prune_search.training.state_store import PreemptedError
from prune_search.trial.callbacks import Guarded, Silent
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup, prepare

QUICK = {"name": "functional-prior", "points": 5, "functions": 2, "iterations": 2, "critic_steps": 2, "critic_units": 4}


def setup(init: Any = QUICK, seed: int = 0, transform: Any = (), **optimizer: Any) -> TrialSetup:
    raw = {
        "preset": "snip",
        "task": {"data": "digits", "model": {"name": "mlp", "hidden": [6]}, "seed": seed},
        "train": {"steps": "8it", "init": init, "optimizer": optimizer},
        "weights": {"at": "0it", "transform": list(transform)},
    }
    return prepare(read_space(raw, "a test").only_recipe(), torch.device("cpu"))


def test_each_layer_decays_by_one_over_its_prior_variance_times_the_training_examples() -> None:
    made = setup(name="sgd", weight_decay="from-prior")
    assert made.initialized is not None
    optimizer = made.optimizer(made.recipe.optimizer)
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    sigma = {name: one["sigma"] for name, one in made.initialized.figures["prior"].items()}
    examples = len(made.data.train)
    for name, parameter in made.model.named_parameters():
        fan_in = parameter.shape[1] if parameter.ndim > 1 else 1
        assert decay[parameter] == pytest.approx(fan_in / (sigma[name] ** 2 * examples), rel=1e-4)


def test_the_prior_does_not_depend_on_the_seed_and_the_weights_do() -> None:
    one, other = setup(), setup(seed=1)
    assert one.initialized == other.initialized
    assert not torch.equal(one.start["model/fc1.weight"], other.start["model/fc1.weight"])


def test_weights_have_the_standard_deviation_of_the_prior() -> None:
    made = setup({**QUICK, "iterations": 1})
    weight = made.start["model/fc1.weight"]
    assert made.initialized is not None
    wanted = made.initialized.variances["fc1.weight"] ** 0.5
    assert weight.std().item() == pytest.approx(wanted, rel=5 / weight.numel() ** 0.5)


def test_reinit_draws_from_the_same_prior_anew() -> None:
    result = run_trial(setup(transform=["reinit"]), None, test=False)
    assert result.initializer["distance_start"] == setup().initialized.figures["distance_start"]  # type: ignore[union-attr]
    assert result.as_data()["initializer"] == result.initializer


@pytest.mark.parametrize("init", ["kaiming", "edge-of-chaos"])
def test_without_a_prior_there_is_no_decay_from_it(init: str) -> None:
    with pytest.raises(
        UserError, match=r"from-prior is computed from the prior that train\.init functional-prior finds"
    ):
        setup(init, weight_decay="from-prior")


def test_a_sampled_trial_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    optimizer: dict[str, Any] = {"name": "sghmc", "burn_in": 3, "weight_decay": "from-prior"}
    whole = run_trial(setup(**optimizer), None, test=False)
    stops = iter([False, False, False, True])
    stopped = Guarded(Silent(), lambda: next(stops))
    with pytest.raises(PreemptedError):
        run_trial(setup(**optimizer), place_of(str(tmp_path)), stopped, test=False)
    rest = run_trial(setup(**optimizer), place_of(str(tmp_path)), test=False)
    assert rest.steps[1] > 0
    assert rest.weights_sha256 == whole.weights_sha256
    weight, mask = whole.tensors["fc1.weight"], whole.masks["fc1.weight"]
    assert (weight[~mask] == 0).all()
    assert (weight[mask] != 0).any()


def test_a_search_can_name_metrics_of_calibration() -> None:
    asked = ("val/nll", "val/ece", "val/brier")
    metrics = run_trial(setup("kaiming"), None, test=False, asked=asked).metrics
    assert metrics["val/nll"] == pytest.approx(metrics["val/loss"], rel=1e-5)
    assert 0 <= metrics["val/ece"] <= 1
    assert 0 <= metrics["val/brier"] <= 2
    assert not set(asked) & set(run_trial(setup("kaiming"), None, test=False).metrics)
