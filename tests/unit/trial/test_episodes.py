"""Episodes in a trial: what they measure, what they leave, and the mask that comes of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.pruning.mask.rule import MaskRule
from prune_search.recipe.problems import UserError
from prune_search.training.loop import train
from prune_search.training.segment import load_model, model_tensors
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.episodes import found_counts, search_figures, searching
from prune_search.trial.rounds import rounds_of
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]


def recipe(scope: Any, **mask: Any) -> dict[str, Any]:
    return {
        "task": {"model": {"name": "small-conv", "channels": [4, 6]}, "seed": 5},
        "train": {"steps": "12it", "batch": 64, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
        "mask": {"at": "end", "criterion": "magnitude", "scope": scope, **mask},
        "weights": {"at": "end"},
        "retrain": {"steps": "3it", "clock": {"hold": 0.01}},
    }


def policy(**options: Any) -> dict[str, Any]:
    return {"name": "ppo-lagrangian", "episodes": 12, "n_steps": 6, "budget": {"parameters": 0.5}, **options}


def walked(setup: TrialSetup, steps: int) -> tuple[Any, Any]:
    """The course of a search after some steps, and its runner's state."""
    rule = MaskRule.of(setup.recipe.mask)
    begin, course, network = searching(setup, rule, 1, lambda: setup.start)
    load_model(setup.model, begin())
    made = course()
    (hook,) = made.hooks
    assert hook.at_start is not None
    hook.at_start()
    train(network, made, 0, steps)
    return made, hook


@pytest.mark.parametrize("reward_steps", ["0it", "2it"])
def test_a_search_leaves_the_weights_bit_for_bit_and_every_episode_begins_with_them(
    setup_of: SetupOf, reward_steps: str
) -> None:
    setup = setup_of(recipe(policy(reward_steps=reward_steps)))
    before = {key: value.clone() for key, value in setup.start.items()}
    each = 1 if reward_steps == "0it" else 2
    _, hook = walked(setup, 12 * each)
    state = hook.state()
    assert len(state["rewards"]) == 12
    changed = model_tensors(setup.model)
    assert any(not torch.equal(before[key], value) for key, value in changed.items())
    hook.at_end()
    assert all(torch.equal(before[key], value) for key, value in model_tensors(setup.model).items())


def test_the_cost_is_what_the_mask_keeps_and_the_answer_is_the_mask_of_its_episode(setup_of: SetupOf) -> None:
    setup = setup_of(recipe(policy()))
    _, (item,) = rounds_of(setup, StateStore(None, Steps()))
    assert item.learning is not None
    tensors = item.learning.end().tensors
    kept, costs = tensors["hook/episodes/kept"], tensors["hook/episodes/costs"]
    total = sum(mask.numel() for mask in item.found.values())
    assert torch.equal(costs, torch.tensor([100.0 * int(one.sum()) / total for one in kept], dtype=torch.float64))
    figures = search_figures(tensors)
    best = int(figures["episode"])
    assert found_counts(tensors) == kept[best].tolist()
    assert list(item.found.kept.values()) == kept[best].tolist()
    assert figures["cost"] == 100.0 * sum(item.found.kept.values()) / total <= 50.0
    # The network of the best episode is measured again as it was then: its accuracy on the validation data.
    load_model(setup.model, item._mask_state())
    item.found.apply(setup.model)
    assert 100.0 * setup.scores("validation", setup.model)["accuracy"] == figures["reward"]
    feasible = costs <= 50.0
    assert figures["reward"] == float(tensors["hook/episodes/rewards"][feasible].max())


def test_the_receipt_tells_of_the_search_and_its_steps_are_counted(setup_of: SetupOf) -> None:
    result = run_trial(setup_of(recipe(policy(reward_steps="2it"))), None)
    assert result.receipt.search["episodes"] == 12
    assert result.as_data()["search"]["budget"] == 50.0
    assert result.steps[0] == 12 + 12 * 2 + 3
    whole = sum(layer.total for layer in result.receipt.layers)
    assert result.receipt.units_kept <= 0.5 * whole


def test_of_episodes_without_training_no_operations_of_training_are_counted(setup_of: SetupOf) -> None:
    names = [name for name in run_trial(setup_of(recipe(policy())), None).metrics if name.startswith("train/")]
    few, many, trained = (
        run_trial(setup_of(recipe(policy(episodes=episodes, **more))), None).metrics
        for episodes, more in ((3, {}), (6, {}), (6, {"reward_steps": "2it"}))
    )
    assert names
    dense = [name for name in names if "dense" in name]
    assert all(few[name] == many[name] < trained[name] for name in dense)


def test_where_no_episode_meets_the_budget_it_is_said_and_the_mask_does(
    setup_of: SetupOf, caplog: pytest.LogCaptureFixture
) -> None:
    scope = policy(episodes=2, budget={"parameters": 0.06}, std=0.01, mean=0.3)
    with caplog.at_level(logging.WARNING, logger="prune_search"):
        result = run_trial(setup_of(recipe(scope)), None)
    assert "none of 2 episodes met the budget of 6%" in caplog.text
    assert result.receipt.search["feasible"] == 0
    total = sum(layer.total for layer in result.receipt.layers)
    assert 0.055 * total < result.receipt.units_kept <= 0.06 * total


def test_a_budget_below_what_can_be_pruned_is_refused_before_the_first_episode(setup_of: SetupOf) -> None:
    with pytest.raises(UserError, match=r"mask\.scope\.budget.*0\.01 of the parameters.*mask\.scope\.most"):
        run_trial(setup_of(recipe(policy(budget={"parameters": 0.01}))), None)


def test_a_search_goes_on_in_the_middle_of_an_episode_bit_for_bit(setup_of: SetupOf) -> None:
    raw = recipe(policy(reward_steps="3it"))
    setup = setup_of(raw)
    _, whole = walked(setup, 36)
    half = setup_of(raw)
    made, hook = walked(half, 20)  # six episodes, and two steps of the seventh
    stored = {key: value.clone() for key, value in hook.state().items()}
    weights = model_tensors(half.model)
    buffers = made.optimizer.state_dict()
    other = setup_of(raw)
    _, course, network = searching(other, MaskRule.of(other.recipe.mask), 1, lambda: other.start)
    again = course()
    load_model(other.model, weights)
    again.optimizer.load_state_dict(buffers)
    (later,) = again.hooks
    assert later.load is not None
    assert later.at_start is not None
    assert later.state is not None
    later.load(stored)
    later.at_start()
    train(network, again, 20, 36)
    assert all(torch.equal(value, later.state()[key]) for key, value in whole.state().items())


@pytest.mark.parametrize("budget", [{"flops": 0.4}, {"parameters": 0.4}])
def test_channels_are_paid_for_as_they_are_cut_out(setup_of: SetupOf, budget: dict[str, float]) -> None:
    scope = policy(budget=budget, episodes=20, most=0.9)
    result = run_trial(setup_of(recipe(scope, criterion="l1", granularity="channel")), None)
    assert result.receipt.search["cost"] <= 40.0
    assert result.receipt.reached > 0


def test_a_second_trial_takes_the_search_up_from_the_storage(setup_of: SetupOf, tmp_path: Path) -> None:
    raw = recipe({"name": "fractions-study", "episodes": 6, "startup": 3, "budget": {"parameters": 0.5}})
    first = run_trial(setup_of(raw), tmp_path)
    longer = {**raw, "retrain": {"steps": "5it", "clock": {"hold": 0.01}}}
    second = run_trial(setup_of(longer), tmp_path)
    assert first.steps[0] == 12 + 6 + 3
    assert second.steps[:2] == (5, 18)
    assert second.masks.sha256 == first.masks.sha256
    assert second.receipt.search == first.receipt.search


def test_a_task_without_accuracy_is_rewarded_by_minus_its_loss(
    setup_of: SetupOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = setup_of(recipe(policy()))
    monkeypatch.setattr(TrialSetup, "scores", lambda self, split, model: {"loss": 2.5})
    _, hook = walked(setup, 2)
    assert hook.state()["rewards"].tolist() == [-2.5, -2.5]


@pytest.mark.parametrize("scope", [policy(episodes=6), {"name": "fractions-study", "episodes": 6, "startup": 2}])
def test_a_ruined_network_is_never_the_answer_and_is_told_of(
    setup_of: SetupOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, scope: dict[str, Any]
) -> None:
    setup = setup_of(recipe({**scope, "budget": {"parameters": 1.0}}))
    losses = iter([math.nan, 2.5, math.inf, 1.5, math.nan, 3.5])
    monkeypatch.setattr(TrialSetup, "scores", lambda self, split, model: {"loss": next(losses)})
    made, hook = walked(setup, 6)
    with caplog.at_level(logging.WARNING, "prune_search"):
        for one in made.hooks:
            one.at_end()
    figures = search_figures({f"hook/episodes/{key}": value for key, value in hook.state().items()})
    assert (figures["episode"], figures["reward"], figures["ruined"]) == (3.0, -1.5, 3.0)
    assert "3 networks had no finite loss or accuracy" in caplog.text
