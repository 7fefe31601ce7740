"""What the sampler expects to spend: what is shared is paid once, and a space costs at most all of it."""

from __future__ import annotations

from typing import Any

from guided_trials import space_of

from prune_search.recipe.space import known_epoch
from prune_search.search.guided.spend import expected_spend

CHAIN: dict[str, Any] = {
    "preset": "lottery-ticket",
    "task": {"data": "digits"},
    "train": {"steps": "10ep", "batch": 100},
    "rounds": {"hole": "int", "low": 1, "high": 4},
}


def test_what_is_shared_is_paid_once() -> None:
    def spent(**search: Any) -> int:
        return expected_spend(space_of(CHAIN, ["maximize val/accuracy"], **search), known_epoch)

    # Four rounds hold the three shorter chains: a training and four retrainings, each as long as the training.
    whole = spent(trials=50)
    assert whole % 5 == 0
    assert spent(trials=4) == whole
    assert spent(trials=1) <= whole
    assert spent(trials=1, begin=[{"rounds": 4}]) == whole
    assert spent(trials=1, begin=[{"rounds": 1}]) == whole * 2 // 5
