"""Presets of one-shot pruning for networks of repeated blocks, such as language models."""

from __future__ import annotations

from typing import Any

from prune_search.pruning.mask.criteria.sparsegpt import SOURCE
from prune_search.recipe.axes import PRESETS
from prune_search.recipe.facts import Preset

Blocks = dict[str, Any]
# n of m, and other sparsities from block to block, make no other paradigm.
ALSO: tuple[Blocks, ...] = (
    {"mask": {"granularity": "2:4"}},
    {"mask": {"scope": {"name": "owl", "order": "blocks"}}},
    *(
        {"mask": {"scope": {"name": "ramp", "order": "blocks", **ends}}}
        for ends in ({"first": 0.4}, {"last": 0.6}, {"first": 0.4, "last": 0.6})
    ),
)


def _one_shot(criterion: str, **weights: Any) -> Blocks:
    """Half of the weights of the network that is given, block by block, without retraining."""
    return {
        "train": {"from": "model", "batch": 1},
        "mask": {
            "at": "end",
            "criterion": criterion,
            "score": {"calibration": {"examples": 128}, "mode": "eval"},
            "sparsity": 0.5,
            "scope": {"name": "uniform", "order": "blocks"},
        },
        "weights": {"at": "end", **weights},
        "retrain": "none",
    }


@PRESETS.register(
    "wanda",
    summary="prunes a pretrained network block by block by |w| · ‖x‖₂, in one shot",
    source="Sun, Liu, Bair & Kolter 2024, A Simple and Effective Pruning Approach for LLMs, 2306.11695",
    facts=Preset(also=ALSO),
)
def wanda() -> Blocks:
    """128 training examples for calibration, as in the paper; of half of each output row the rest goes."""
    return _one_shot("wanda")


@PRESETS.register(
    "sparsegpt",
    summary="prunes a pretrained network block by block; kept weights make up for removed ones, in one shot",
    source=SOURCE,
    facts=Preset(also=ALSO),
)
def sparsegpt() -> Blocks:
    """128 training examples for calibration, as in the paper, 128 columns at a time, damping 0.01."""
    return _one_shot("sparsegpt", transform=["sparsegpt"])
