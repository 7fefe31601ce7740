"""Who stops trials early."""

from __future__ import annotations

from prune_search.recipe.axes import SCHEDULERS


@SCHEDULERS.register("none", summary="every trial runs to its end")
def none() -> None:
    """Nothing is stopped."""
