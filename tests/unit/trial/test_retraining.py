"""How long a retraining lasts, which may depend on the mask, and what it keeps on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.training.segment import MODEL
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.retraining import check_low_rank, retrain_course, retraining_of, settles_at
from prune_search.trial.rounds import Round, rounds_of
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]


def only_round(setup_of: SetupOf, preset: str, sparsity: float, **retrain: Any) -> Round:
    task = {"model": {"name": "mlp", "hidden": [4]}}
    blocks = {"train": {"steps": "20it", "batch": 50}, "mask": {"sparsity": sparsity}}
    setup = setup_of({"preset": preset, "task": task, **blocks, **({"retrain": retrain} if retrain else {})})
    return rounds_of(setup, StateStore(None, Steps()))[1][0]


def test_a_retraining_of_the_same_operations_is_longer_the_sparser_the_mask_up_to_its_limit(setup_of: SetupOf) -> None:
    steps = []
    for sparsity in (0.0, 0.5, 0.99):
        item = only_round(setup_of, "scratch-b", sparsity)
        steps.append(retraining_of(item.setup, item.k1, item.found).steps)
    assert steps[0] < steps[1] <= steps[2] == 2 * steps[0]


def test_a_static_mask_is_kept_and_settled_from_the_start(setup_of: SetupOf) -> None:
    item = only_round(setup_of, "snip", 0.8)
    course = retrain_course(item.setup, item.found, item.lasting)
    assert len(course.hooks) == 1
    assert settles_at(item.setup, item.lasting) == 0


def test_a_dynamics_acts_before_the_mask_is_put_back_and_says_when_it_has_settled(setup_of: SetupOf) -> None:
    moving = {"until": "end", "dynamics": {"name": "gradual", "from": "2it", "until": "12it", "every": "5it"}}
    item = only_round(setup_of, "gradual-magnitude", 0.8, **moving)
    course = retrain_course(item.setup, item.found, item.lasting, (item.rule, item.share, 1))
    names = [hook.name for hook in course.hooks]
    assert len(names) == 2
    assert names[1] == retrain_course(item.setup, item.found, item.lasting).hooks[0].name
    # The last event comes before the update of step 12.
    assert settles_at(item.setup, item.lasting) == 13


def test_low_rank_updates_keep_the_mask_move_nothing_else_and_go_on_from_a_stop(setup_of: SetupOf) -> None:
    lora = {"until": "end", "clip": 1.0, "layer_decay": 0.5, "lora": {"rank": 2}}
    whole, stopped = (only_round(setup_of, "lottery-ticket", 0.8, **lora) for _ in range(2))
    name = next(iter(whole.found))
    course = retrain_course(whole.setup, whole.found, whole.lasting)
    assert [group["scale"] for group in course.optimizer.param_groups] == [0.5]
    assert sorted(course.further) == [f"low-rank/{name}/a", f"low-rank/{name}/b"]
    begun = {key: tensor.clone() for key, tensor in whole.retraining.begin().items()}
    stopped.retraining.at(7)
    middle = stopped.retraining.at(7).tensors
    assert {f"hook/low-rank/{part}/{name}" for part in "abw"} <= set(middle)
    ends = [item.retraining.end().tensors for item in (whole, stopped)]
    assert [key for key in ends[0] if "low-rank" in key] == []
    for key, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][key])
        if key.startswith(MODEL):
            assert torch.equal(tensor, begun[key]) == (key != MODEL + name)
    assert not bool(ends[0][MODEL + name][~whole.found[name]].any())


def test_a_target_that_the_network_lacks_is_told_before_anything_is_trained(setup_of: SetupOf) -> None:
    item = only_round(setup_of, "snip", 0.8, until="end", lora={"targets": ["q_proj"]})
    with pytest.raises(UserError, match=r"retrain\.lora\.targets: no linear layer is called q_proj"):
        check_low_rank(item.setup)
