"""The number of iterations per epoch of a recipe, from the registry or from a data set that is read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch, recipe_epoch

if TYPE_CHECKING:
    from prune_search.trial.data_and_network import Code


@dataclass(frozen=True)
class EpochLengths:
    """From a recipe to the iterations in its epoch.

    Attributes:
        data_root: folder of the data sets' files, or None.
        code: the user's own model and data.
    """

    data_root: Path | None
    code: Code
    _examples: dict[str, int] = field(default_factory=dict)

    def __call__(self, recipe: Recipe) -> int | None:
        """Iterations in an epoch.

        Raises:
            UserError: the data are not there, or the batch is larger than the training set.
        """
        known = known_epoch(recipe)
        return known if known is not None else recipe_epoch(recipe, self.examples(recipe))

    def examples(self, recipe: Recipe) -> int:
        """Size of the training set of a recipe's data, which are read."""
        written = repr(recipe.task.data)
        if written not in self._examples:
            from prune_search.trial.data_and_network import read_data

            self._examples[written] = len(read_data(recipe, self.data_root, self.code).train)
        return self._examples[written]
