"""A result as plain data: what metrics.json and `run --json` hold."""

from __future__ import annotations

import json
import math

import torch

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.receipt import LayerReceipt, Receipt
from prune_search.recipe.space import read_space
from prune_search.trial.result import Result, RoundResult, finite


def test_the_data_are_those_of_the_last_round_and_what_is_not_finite_is_null() -> None:
    receipt = Receipt(0.9, 0.8, 1, 2, (LayerReceipt("a", 10, 2, 10, 2), LayerReceipt("b", 5, 0, 0, 0)))
    rounds = (
        RoundResult(1, Receipt(0.5, 0.5, 5, 5, ()), "1" * 64, {"val/loss": 1.0}, found_at=7),
        RoundResult(2, receipt, "2" * 64, {"val/loss": math.nan, "val/accuracy": 0.5}),
    )
    result = Result(
        recipe=read_space({"preset": "snip"}, "a test").only_recipe(),
        key="k",
        paradigm="snip",
        masks=MaskSet({"a": torch.ones(2, dtype=torch.bool)}),
        tensors={},
        weights_sha256="w",
        rounds=rounds,
        test_metrics={"test/accuracy": 0.25},
        environment={"torch": "2"},
        steps=(3, 2, 1),
        seconds=1.23456,
    )
    assert result.receipt is receipt
    assert result.metrics["test/accuracy"] == 0.25
    assert repr(result) == "Result(snip, key k, sparsity 0.8000, val/loss nan, val/accuracy 0.5, test/accuracy 0.25)"
    assert repr(result.masks) == "MaskSet(1 masks of 2 weights)"
    data = result.as_data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["metrics"] == {"val/loss": None, "val/accuracy": 0.5, "test/accuracy": 0.25}
    assert data["sparsity"] == {"asked": 0.9, "reached": 0.8}
    assert (data["collapsed"], data["seconds"]) == (1, 1.235)
    assert [data[f"steps_{kind}"] for kind in ("trained", "reused", "replayed", "repeated")] == [3, 2, 1, 0]
    assert [item.get("found_at") for item in data["rounds"]] == [7, None]
    assert data["layers"][0] == {"name": "a", "total": 10, "kept": 2, "units": 10, "units_kept": 2}


def test_infinities_are_null_too() -> None:
    assert finite({"a": math.inf, "b": -math.inf, "c": 0.0}) == {"a": None, "b": None, "c": 0.0}
