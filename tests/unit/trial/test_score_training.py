"""The segment in which scores are learned: where it begins, and what it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import torch

from prune_search.pruning.mask.rule import MaskRule
from prune_search.training.loop import train
from prune_search.training.segment import load_model, model_tensors
from prune_search.trial.score_training import learning
from prune_search.trial.setup import TrialSetup

TASK = {"model": {"name": "mlp", "hidden": [8]}}


def test_it_begins_at_the_weights_that_it_is_given_and_leaves_them_bit_for_bit(
    setup_of: Callable[[Mapping[str, Any]], TrialSetup],
) -> None:
    setup = setup_of({"preset": "edge-popup", "task": TASK, "train": {"steps": "1ep"}, "mask": {"sparsity": 0.5}})
    rule = MaskRule.of(setup.recipe.mask)
    begin, course, network = learning(setup, rule, 1, lambda: (Decimal("0.5"), None), lambda: setup.start)
    load_model(setup.model, begin())
    weights = {key: value.clone() for key, value in model_tensors(setup.model).items()}
    made = course()
    scores = [score for group in made.optimizer.param_groups for score in group["params"]]
    first = [score.detach().clone() for score in scores]
    assert first
    for hook in made.hooks:
        if hook.at_start is not None:
            hook.at_start()
    train(network, made, 0, 3)
    assert any(not torch.equal(before, score) for before, score in zip(first, scores, strict=True))
    assert all(torch.equal(weights[key], value) for key, value in model_tensors(setup.model).items())
