"""Options that every scope accepts besides its own."""

from __future__ import annotations

from prune_search.recipe.fields import Integer, ListOf, Text
from prune_search.recipe.registry import Option

SHARED = {
    "exclude": Option(ListOf(Text(), 0, 1000), [], "layers that are not pruned: first, last, or names", later=True),
    "least": Option(Integer(0, 10**9), 0, "minimum number of units that each layer keeps", later=True),
}
