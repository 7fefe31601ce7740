"""Control masks with the same counts as the found mask. They replace the mask of the last round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prune_search.recipe.axes import CONTROLS
from prune_search.recipe.facts import Control

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
        runs: per layer, how many units make a run of which a fixed number is kept; 0 or absent: none.
    """

    kept: dict[str, Tensor]
    candidates: dict[str, Tensor]
    dropped_at: dict[str, Tensor]
    scores: dict[str, Tensor]
    seed: int
    runs: Mapping[str, int] = field(default_factory=dict)

    def in_runs(self, name: str, values: Tensor) -> Tensor:
        """Values per unit of a layer as [runs, units of a run]; without runs all units are one."""
        return values.reshape(-1, self.runs.get(name, 0) or max(1, values.numel()))


def _permuted(mask: Tensor, seed: int, *words: str) -> Tensor:
    from prune_search.training.randomness import generator

    return mask[torch.randperm(mask.numel(), generator=generator(seed, "control", *words))]


def _permuted_in_runs(chosen: Chosen, name: str, word: str) -> Tensor:
    """A layer's mask with every run permuted for itself."""
    from prune_search.training.randomness import generator

    mask = chosen.in_runs(name, chosen.kept[name])
    draw = torch.rand(mask.shape, generator=generator(chosen.seed, "control", word, name), dtype=torch.float64)
    return mask.gather(1, draw.argsort(dim=1, stable=True)).reshape(-1)


@CONTROLS.register("shuffle", summary="permutes each layer's mask", source=MISSING, facts=Control(by_layer=True))
def shuffle(chosen: Chosen) -> dict[str, Tensor]:
    """The same count in every layer, at random places."""
    return {
        name: _permuted_in_runs(chosen, name, "shuffle")
        if chosen.runs.get(name)
        else _permuted(mask, chosen.seed, "shuffle", name)
        for name, mask in chosen.kept.items()
    }


@CONTROLS.register("random", summary="permutes the mask over all layers together", source=MISSING)
def random(chosen: Chosen) -> dict[str, Tensor]:
    """The same count in all, at random places."""
    names = list(chosen.kept)
    if any(chosen.runs.values()):
        # The count of every run is fixed: within runs is all that can be permuted.
        return {name: _permuted_in_runs(chosen, name, "random") for name in names}
    pooled = _permuted(torch.cat([chosen.kept[name] for name in names]), chosen.seed, "random")
    return dict(zip(names, torch.split(pooled, [chosen.kept[name].numel() for name in names]), strict=True))


@CONTROLS.register(
    "invert",
    summary="keeps the same number of units per layer, but those with the lowest scores",
    source=MISSING,
    facts=Control(with_dynamics=False),
)
def invert(chosen: Chosen) -> dict[str, Tensor]:
    """The same count in every layer, of the units that the criterion would remove first.

    With several scoring iterations a unit that was removed earlier ranks lower.
    """
    return {name: _lowest(chosen, name) for name in chosen.kept}


def _lowest(chosen: Chosen, name: str) -> Tensor:
    """In every run of a layer as many units as are kept: those with the lowest scores that could be kept."""
    found = []
    rows = (chosen.kept, chosen.candidates, chosen.scores, chosen.dropped_at)
    for mask, candidates, scores, dropped_at in zip(*(chosen.in_runs(name, one[name]) for one in rows), strict=True):
        places = torch.nonzero(candidates).squeeze(1)
        by_score = places[torch.sort(scores[places], stable=True).indices]
        lowest = by_score[torch.sort(dropped_at[by_score], stable=True).indices]
        kept = torch.zeros_like(mask)
        kept[lowest[: int(mask.sum())]] = True
        found.append(kept)
    return torch.cat(found)
