"""How each ATen operation treats units: one rule per operation, by families."""

from __future__ import annotations

from prune_search.pruning.structure.rules import (
    attention,
    contractions,
    elementwise,
    norms,
    picks,
    pictures,
    reductions,
    shapes,
)
from prune_search.pruning.structure.rules.registry import RULES, rule

__all__ = [
    "RULES",
    "attention",
    "contractions",
    "elementwise",
    "norms",
    "picks",
    "pictures",
    "reductions",
    "rule",
    "shapes",
]
