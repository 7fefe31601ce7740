"""Chooses which part of a split dimension holds the units, for example the heads or the features of each head."""

from __future__ import annotations

import numpy as np

from prune_search.pruning.structure.analysis import Analysis, analyzed
from prune_search.pruning.structure.capture import Captured
from prune_search.pruning.structure.labels import FIXED, Ids
from prune_search.pruning.structure.sets import units_of

MAX_TRIES = 8


def analyze(captured: Captured, widths: bool = False) -> Analysis:
    """Which places of a network's tensors go together.

    A dimension that is split has its units along the outermost part along which two or more can go that are alike:
    heads rather than the features of each, of [3, heads, features] the heads, of two halves that are shuffled the
    channels of a half.

    Args:
        captured: the network.
        widths: whether places that a normalization takes its statistics over can go: the width of a residual stream.
            It goes on counting them, as the zeros that they are in the masked network.
    """
    choices: dict[tuple[str, int], int] = {}
    best: Analysis | None = None
    most = -1
    for _ in range(MAX_TRIES):
        found = analyzed(captured, choices, widths)
        alike = _alike(found)
        if len(alike) > most:
            best, most = found, len(alike)
        stuck = [
            key
            for key, site in found.notes.sites.items()
            if choices.get(key, 0) + 1 < len(site.candidates)
            and np.isin(np.unique(found.classes[site.ids]), alike).sum() < 2
        ]
        if not stuck:
            break
        for key in stuck:
            choices[key] = choices.get(key, 0) + 1
    assert best is not None
    return best


def _alike(found: Analysis) -> Ids:
    """The classes of units of which there are others of their kind."""
    sets = [units.classes for units in units_of(found) if len(units.classes) > 1]
    return np.concatenate(sets) if sets else np.array([FIXED])[:0]
