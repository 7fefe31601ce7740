"""Presets whose layer densities are searched for before the mask is cut."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.facts import Preset

Blocks = dict[str, Any]


@PRESETS.register(
    "constrained-rl",
    summary="a policy learns each layer's pruned fraction within a budget of parameters, then training continues",
    source="Malik, Haider, Iqbal & Taj 2021, Pruning through Constrained Reinforcement Learning, 2110.08558",
    facts=Preset(
        also=tuple(
            {"retrain": {"clock": {"hold": rate}}, "mask": {"score": {"mode": mode}}}
            for rate in ("final", 0.01)
            for mode in ("train", "eval")
        )
    ),
)
def constrained_rl() -> Blocks:
    """A tenth of the parameters, 1,000 episodes, 32 training steps before each reward.

    The paper takes 40,000 steps, a layer each, on VGG-11 to 19 and ResNet-18: 40,000 / layers episodes.
    """
    scope = {
        "name": "ppo-lagrangian",
        "budget": {"parameters": 0.1},
        "episodes": 1000,
        "reward_steps": "32it",
        "optimizer": {"name": "adam", "lr": 3.0e-4},
        "most": 0.95,
        "n_steps": 128,
        "lr": 3.0e-4,
        "epochs": 10,
        "clip": 0.2,
        "target_kl": 0.1,
        "multiplier_lr": 1.0,
    }
    return {
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": {"by": "scope"}, "scope": scope},
        "weights": {"at": "end"},
        "retrain": {"steps": "5ep", "clock": {"hold": "final"}},
    }
