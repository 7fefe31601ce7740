"""The rounds of a recipe: what is trained lazily, what each round asks for, and what a mask removed stays removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import torch

from prune_search.training.segment import MODEL
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.rounds import rounds_of
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]


def small(preset: str, **more: Any) -> dict[str, Any]:
    task = {"model": {"name": "mlp", "hidden": [4]}}
    return {"preset": preset, "task": task, "train": {"steps": "4it", "batch": 50}, **more}


def test_nothing_is_trained_before_a_state_is_asked_for(setup_of: SetupOf) -> None:
    steps = Steps()
    _, (only,) = rounds_of(setup_of(small("magnitude-after-training")), StateStore(None, steps))
    assert steps.trained == 0
    assert only.k1 == 4
    assert steps.trained == 0
    assert only.found.receipt().reached > 0
    assert steps.trained == 4


def test_each_round_finds_its_mask_on_the_retraining_before_and_gives_back_nothing(setup_of: SetupOf) -> None:
    setup = setup_of(small("lottery-ticket", mask={"sparsity": {"per_round": 0.5}}, rounds=2))
    first, (one, two) = rounds_of(setup, StateStore(None, Steps()))
    assert one.source is first
    assert two.source is one.retraining
    assert (one.last, two.last) == (False, True)
    assert (one.share, two.share) == (Decimal("0.5"), Decimal("0.25"))
    for name, mask in two.masks.items():
        assert not (mask & ~one.masks[name]).any()
    assert two.masks.receipt().reached > one.masks.receipt().reached


def test_what_the_mask_removes_is_zero_at_the_end_and_the_rest_was_trained(setup_of: SetupOf) -> None:
    _, (only,) = rounds_of(setup_of(small("snip", mask={"sparsity": 0.8})), StateStore(None, Steps()))
    for name, mask in only.masks.items():
        weight, start = only.result[MODEL + name], only.setup.start[MODEL + name]
        assert not weight[~mask].any()
        assert mask.any()
        assert not torch.equal(weight[mask], start[mask])


def test_a_round_counts_the_steps_that_it_asks_for_whoever_trained_them(setup_of: SetupOf) -> None:
    setup = setup_of(small("lottery-ticket", mask={"sparsity": 0.5}, rounds=2))
    steps = Steps()
    first, rounds = rounds_of(setup, StateStore(None, steps))
    asked = first.total + sum(item.needed() for item in rounds)
    assert rounds[-1].end.end().meta["ended"] is True
    assert asked == steps.trained == 12


def test_a_mask_that_moves_is_read_from_the_state_and_settles_where_its_dynamics_says(setup_of: SetupOf) -> None:
    retrain = {"until": "end", "dynamics": {"name": "set", "drop": 0.3, "every": "1it", "until": "3it"}}
    _, (moving,) = rounds_of(setup_of(small("set", mask={"sparsity": 0.8}, retrain=retrain)), StateStore(None, Steps()))
    assert moving.moves
    assert moving.masks.sha256 != moving.found.sha256
    assert moving.masks.receipt().reached == moving.found.receipt().reached
    _, (static,) = rounds_of(setup_of(small("snip")), StateStore(None, Steps()))
    assert (static.moves, static.settled()) == (False, 0)
