"""The input of figures: the records of searches, and the comparison computed from them. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_search.ledger.records import DENSE, SearchRecords, TrialRecords
from prune_search.recipe.axes import PICTURES
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.metric_names import quality
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.search_block import parse_objective
from prune_search.recipe.space import known_epoch, recipe_epoch
from prune_search.report.figure_style import RC, Format, drawn

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class FigureData:
    """A comparison, as a picture sees it.

    Attributes:
        searches: that are compared.
        data: what `report.compare.compare_data` gives, with ``importance``.
    """

    searches: tuple[SearchRecords, ...]
    data: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The searches' names."""
        return " + ".join(self.data["searches"])

    @property
    def objectives(self) -> list[tuple[str, str]]:
        """(direction, metric) of each objective."""
        return [parse_objective(written) for written in self.data["objectives"]]

    @property
    def quality(self) -> str:
        """The metric that says how good a network is."""
        return quality(self.objectives)[1]

    def better(self, first: float, second: float) -> bool:
        """Whether a figure of `quality` is better than another."""
        return first > second if quality(self.objectives)[0] == "maximize" else first < second

    def best(self, figures: Iterable[float]) -> float:
        """The best of some figures of `quality`."""
        return max(figures) if quality(self.objectives)[0] == "maximize" else min(figures)

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """The rows that ran to their end, best first."""
        return [row for row in self.data["rows"] if row["status"] == "completed"]

    def dense(self, metric: str) -> float | None:
        """What the dense network of the first search came to."""
        first = self.data["searches"][0]
        found = [c["metrics"] for c in self.data["controls"] if c["id"] == DENSE and c["search"] == first]
        return float(found[0][metric]) if found and metric in found[0] else None

    def trial(self, row: Mapping[str, Any]) -> TrialRecords | None:
        """The records of a row's first trial."""
        search = next((search for search in self.searches if search.name == row["search"]), None)
        return None if search is None else search.trials.get(row["id"])

    def placed(self) -> Iterator[tuple[Mapping[str, Any], Recipe, Timeline]]:
        """The rows that ran to their end, with recipe and timeline; those of another version's making are left out."""
        for row in self.rows:
            trial = self.trial(row)
            examples = next((s.definition.get("examples") for s in self.searches if s.name == row["search"]), 0)
            found = None if trial is None else timeline_of(trial.recipe, int(examples or 0))
            if found is not None:
                yield row, *found


def timeline_of(canonical: Mapping[str, Any], examples: int) -> tuple[Recipe, Timeline] | None:
    """A canonical recipe placed on its clock; None where this version cannot read it."""
    try:
        recipe = Recipe.from_canonical(canonical)
        epoch = known_epoch(recipe) or recipe_epoch(recipe, examples)
        return recipe, resolve(recipe, epoch)
    except UserError:
        return None


def hang(figure_data: FigureData, names: Sequence[str] | None = None, written: Format = "svg") -> dict[str, bytes]:
    """Draw the pictures that have something to show.

    Args:
        figure_data: what is to be seen.
        names: of the pictures; None: all that are registered.
        written: the format.

    Returns:
        By name, in the order in which they are shown, the content of an image file.
    """
    import matplotlib

    chosen = [PICTURES[name] for name in names] if names is not None else list(PICTURES.values())
    found: dict[str, bytes] = {}
    for entry in sorted(chosen, key=lambda entry: (entry.facts.place, entry.name)):
        with matplotlib.rc_context(RC):
            figure = entry.make(figure_data)
        if figure is not None:
            found[entry.name] = drawn(figure, written, f"{figure_data.title} {entry.name}")
    return found
