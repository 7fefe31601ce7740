"""Operations of training: what a trial's metrics say, against figures worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from small_trials import EPOCH, SetupOf, blocks

from prune_search.pruning.retrain.dynamics.gradual import share_at
from prune_search.recipe.axes import DYNAMICS
from prune_search.trial.result import Result
from prune_search.trial.run import run_trial
from prune_search.trial.training_flops import Costs

# 64 inputs, 20 and 12 hidden units and 10 outputs; batches of 128.
LAYERS = (64 * 20, 20 * 12, 12 * 10)
DENSE = 2 * 128 * sum(LAYERS)


def figures(result: Result) -> list[float]:
    kinds = ("forward_flops_dense", "backward_flops_dense", "forward_flops_sparse", "backward_flops_sparse")
    return [result.metrics[f"train/{kind}"] for kind in kinds]


def forward(result: Result) -> float:
    """Of the final mask, for a batch."""
    return 2 * 128 * sum(int(mask.sum()) for mask in result.masks.values())


def test_a_static_mask_spares_what_it_removes_in_all_three_products(setup_of: SetupOf) -> None:
    result = run_trial(setup_of(blocks("snip", mask={"sparsity": 0.9})), None)
    steps = 2 * EPOCH
    sparse = steps * forward(result)
    assert figures(result) == pytest.approx([steps * DENSE, 2 * steps * DENSE, sparse, 2 * sparse], rel=1e-12)


def test_training_before_the_mask_is_dense_and_rounds_add_up(setup_of: SetupOf) -> None:
    more: dict[str, Any] = {"mask": {"sparsity": {"per_round": 0.5}}, "rounds": 2, "retrain": {"until": "end"}}
    result = run_trial(setup_of(blocks("lottery-ticket", **more)), None)
    first, second = (round_.metrics["train/forward_flops_sparse"] for round_ in result.rounds)
    steps = 2 * EPOCH
    assert figures(result)[:2] == [3 * steps * DENSE, 6 * steps * DENSE]
    assert second - first == pytest.approx(steps * forward(result), rel=1e-12)
    assert steps * DENSE < first < 2 * steps * DENSE
    assert figures(result)[3] == pytest.approx(2 * second, rel=1e-12)


def test_what_a_dynamics_needs_of_removed_weights_is_counted(setup_of: SetupOf) -> None:
    steps = 2 * EPOCH
    for name, full in (("set", 0), ("rigl", 4), ("snfs", steps)):
        moving = {"until": "end", "dynamics": {"name": name, "drop": 0.3, "every": "3it", "until": "12it"}}
        result = run_trial(setup_of(blocks("rigl", mask={"sparsity": 0.8}, retrain=moving)), None)
        _, _, ahead, back = figures(result)
        assert ahead == pytest.approx(steps * forward(result), rel=1e-12), name
        assert back == pytest.approx(2 * ahead + full * (DENSE - forward(result)), rel=1e-12), name


@pytest.mark.parametrize("until", ["20it", "63%", "end"])
def test_a_gradual_mask_is_counted_step_by_step(until: str) -> None:
    facts = DYNAMICS["gradual"].facts
    options = {"path": "cubic", "from": "7it", "until": until, "every": "4it"}
    end = {"20it": 20, "63%": 63, "end": 100}[until]
    kept, share = [], Decimal(1)
    for step in range(100):
        if step == end or (7 <= step < end and (step - 7) % 4 == 0):
            share = share_at("cubic", Decimal("0.1"), step, 7, end)
        kept.append(share)
    assert facts.mean_kept(0.1, 100, 10, **options) == pytest.approx(float(sum(kept)) / 100, rel=1e-12)


def test_a_step_with_all_gradients_costs_a_dense_product_more() -> None:
    found = Costs({"a": 60.0, "b": 40.0}).steps(10, 10.0, full_gradients=1)
    assert found.as_data() == {
        "forward_dense": 1000.0,
        "backward_dense": 2000.0,
        "forward_sparse": 100.0,
        "backward_sparse": 100.0 + 90.0 + 100.0,
    }
