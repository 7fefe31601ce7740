"""The register of rules, by the name of the operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prune_search.pruning.structure.place import Place

# From a node to the labels of what it gives: of one tensor, or a list of those of several.
Rule = Callable[[Place], Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of these names."""

    def add(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"there is a rule for {name} already")
            RULES[name] = function
        return function

    return add
