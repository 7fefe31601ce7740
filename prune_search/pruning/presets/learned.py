"""Presets that train a mask while the weights keep their initial values."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.axes import PRESETS

EDGE = "Ramanujan et al. 2020, What's Hidden in a Randomly Weighted Neural Network?, 1911.13299"
ZHOU = "Zhou, Lan, Liu & Yosinski 2019, Deconstructing Lottery Tickets, 1905.01067"

Blocks = dict[str, Any]


def _hidden(criterion: Blocks, retrain: Any = "none", **mask: Any) -> Blocks:
    return {
        "train": {"steps": "0it"},
        "mask": {"at": "0it", "criterion": criterion, **mask},
        "weights": {"at": "0it"},
        "retrain": retrain,
    }


@PRESETS.register("edge-popup", summary="finds a subnetwork of random weights; nothing else is trained", source=EDGE)
def edge_popup() -> Blocks:
    """Hidden networks: half of the signed constants."""
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1.0e-4}
    criterion = {"name": "edge-popup", "steps": "10ep", "optimizer": optimizer, "schedule": "cosine"}
    blocks = _hidden(criterion, sparsity=0.5, scope="uniform")
    blocks["train"]["init"] = "signed-constant"
    return blocks


@PRESETS.register("supermask", summary="trains the probabilities of keeping weights, not the weights", source=ZHOU)
def supermask() -> Blocks:
    """How much is kept is learned too; the weights are signed constants.

    No weight decay, as released: at a rate of 100 it would pull every score to 0.
    """
    sgd = {"name": "sgd", "lr": 100.0, "momentum": 0.9, "weight_decay": 0.0}
    criterion = {"name": "supermask", "steps": "10ep", "optimizer": sgd, "sign_constant": True}
    return _hidden(criterion, sparsity="learned", scope="learned")


@PRESETS.register(
    "gumbel-mask",
    summary="a mask at initialization learned on soft Gumbel draws, then training (Optimal Eye Surgeon)",
    source="Ghosh et al. 2024, Optimal Eye Surgeon, 2406.05288",
)
def gumbel_mask() -> Blocks:
    """The mask is learned at initialization; then the sparse network is trained."""
    adam = {"name": "adam", "lr": 0.01}
    criterion = {"name": "gumbel", "temperature": 0.2, "kl": 1.0e-9, "steps": "2000it", "optimizer": adam}
    retrain = {"steps": "1500it", "clock": {"hold": 0.01}, "optimizer": adam}
    return _hidden(criterion, retrain, sparsity=0.95, scope="global")
