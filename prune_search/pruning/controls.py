"""Controls: other masks of the same counts. They act after f1 of the last round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prune_search.recipe.axes import CONTROLS

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch

MISSING = "Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark?, 2009.08576"


@dataclass(frozen=True)
class Chosen:
    """A mask in units, and how it came about.

    Attributes:
        kept: per layer, bool [units].
        candidates: per layer, bool [units]: what this round could keep.
        dropped_at: per layer, int [units]: the scoring iteration that removed the unit, past the last for kept ones.
        scores: per layer, [units]: the score at the last iteration in which the unit took part.
        seed: of the trial.
    """

    kept: dict[str, Tensor]
    candidates: dict[str, Tensor]
    dropped_at: dict[str, Tensor]
    scores: dict[str, Tensor]
    seed: int


def _permuted(mask: Tensor, seed: int, *words: str) -> Tensor:
    from prune_search.training.randomness import generator

    return mask[torch.randperm(mask.numel(), generator=generator(seed, "control", *words))]


@CONTROLS.register("shuffle", summary="each layer's mask permuted over its places", source=MISSING)
def shuffle(chosen: Chosen) -> dict[str, Tensor]:
    """The same count in every layer, at random places."""
    return {name: _permuted(mask, chosen.seed, "shuffle", name) for name, mask in chosen.kept.items()}


@CONTROLS.register("random", summary="the mask permuted over the places of all layers together", source=MISSING)
def random(chosen: Chosen) -> dict[str, Tensor]:
    """The same count in all, at random places."""
    names = list(chosen.kept)
    pooled = _permuted(torch.cat([chosen.kept[name] for name in names]), chosen.seed, "random")
    return dict(zip(names, torch.split(pooled, [chosen.kept[name].numel() for name in names]), strict=True))


@CONTROLS.register(
    "invert", summary="in each layer as many of the lowest-scored units", source=MISSING, with_dynamics=False
)
def invert(chosen: Chosen) -> dict[str, Tensor]:
    """The same count in every layer, of the units that the criterion would remove first.

    With several scoring iterations a unit that was removed earlier ranks lower.
    """
    kept = {}
    for name, mask in chosen.kept.items():
        places = torch.nonzero(chosen.candidates[name]).squeeze(1)
        by_score = places[torch.sort(chosen.scores[name][places], stable=True).indices]
        lowest = by_score[torch.sort(chosen.dropped_at[name][by_score], stable=True).indices]
        kept[name] = torch.zeros_like(mask)
        kept[name][lowest[: int(mask.sum())]] = True
    return kept
