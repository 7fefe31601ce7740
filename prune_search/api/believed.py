"""The expectations of `guided` searches, for the pages and commands that show them: see `search.guided.outlook`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prune_search.api.definition import space_of
from prune_search.ledger.records import SearchRecords

if TYPE_CHECKING:
    from prune_search.recipe.recipe import Recipe
    from prune_search.search.guided.outlook import Outlook

# Of more trials it takes longer than somebody who looks at the progress wants to wait.
MOST_WATCHED = 300


@dataclass
class Believed:
    """Tells what searches believe; what it has computed from a search's space it keeps.

    Attributes:
        outlooks: by name, of the searches that were asked for.
    """

    outlooks: dict[str, Outlook] = field(default_factory=dict)

    def of(self, search: SearchRecords, effects: bool = True) -> dict[str, Any] | None:
        """What a search believes (see `Outlook.tell`); None where its sampler believes nothing."""
        from prune_search.search.guided.recommend import follows

        if not follows(search.definition["space"]["search"]["sampler"]):
            return None
        if not any(trial.status == "completed" for trial in search.numbered()):
            return None
        if search.name not in self.outlooks:
            self.outlooks[search.name] = _outlook(search)
        return self.outlooks[search.name].tell(search, effects)

    def watched(self, search: SearchRecords) -> dict[str, Any] | None:
        """The same for the progress of a search: its course alone; of a long one ``left_out``, which says so."""
        from prune_search.search.guided.recommend import follows

        if len(search.numbered()) <= MOST_WATCHED:
            return self.of(search, effects=False)
        if not follows(search.definition["space"]["search"]["sampler"]):
            return None
        return {"left_out": f"not computed here for more than {MOST_WATCHED} trials; compare --html shows it"}


def believed(searches: Sequence[SearchRecords]) -> list[dict[str, Any]]:
    """What each of some searches believes; those that believe nothing are left out."""
    asked = Believed()
    return [found for search in searches if (found := asked.of(search)) is not None]


def _outlook(search: SearchRecords) -> Outlook:
    from prune_search.recipe.space import known_epoch, recipe_epoch
    from prune_search.search.guided.outlook import Outlook

    examples = int(search.definition.get("examples") or 0)

    def epoch_of(recipe: Recipe) -> int | None:
        return known_epoch(recipe) or (recipe_epoch(recipe, examples) if examples else None)

    return Outlook(space_of(search.definition), epoch_of, examples)
