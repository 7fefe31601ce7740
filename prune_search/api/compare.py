"""Compares searches: reads their records, estimates which parameters mattered, writes figures and the HTML page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.api.target import read_target
from prune_search.api.where import Where, named_storage, where_given
from prune_search.ledger.records import SearchRecords, list_searches, read_search, search_folder
from prune_search.recipe.argument_types import of_type_or_none, texts
from prune_search.recipe.axes import PRESETS
from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.report.compare import Question, compare_data
from prune_search.report.differences import Side, difference, names_in, side_in
from prune_search.storage.files import StorageError, one_line, put_file
from prune_search.storage.places import StoragePath, local_folder
from prune_search.tracking.hole_weights import keep_weights
from prune_search.tracking.project import PICTURES

if TYPE_CHECKING:
    from prune_search.report.figure_style import Format

logger = logging.getLogger("prune_search")


def compare(
    *names: str,
    where: Where | None = None,
    sort: str | None = None,
    only: Sequence[str] = (),
    by: str | None = None,
    diff: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Compare one or more searches; returns the data of ``compare --json``.

    Args:
        names: searches in one storage, on the same data set.
        where: storage.
        sort: a metric to rank by instead of the first objective.
        only: conditions that rows must meet, e.g. ``sparsity >= 0.9``.
        by: ``paradigm`` or a recipe key to group the rows by.
        diff: two recipes to show side by side: names or keys of trials, ``SEARCH/TRIAL``, searches (their best),
            presets or recipe files.

    Returns:
        ``rows`` (trials differing only in seed share one), ``pareto``, ``controls``, ``best``, ``recommended`` …;
        and ``difference`` if `diff` is given.

    Raises:
        UserError: a search does not exist, searches are not comparable, or a condition, key or side is invalid.

    Example:
        >>> data = prune_search.compare("quickstart", only=["sparsity >= 95%"], by="paradigm")
        >>> data["groups"][0]["value"]
    """
    storage = named_storage(where_given(where).storage)
    texts("names", names, "the names of searches")
    texts("only", only, 'a list of conditions, such as ["sparsity >= 0.9"]')
    of_type_or_none("sort", sort, (str,), "the name of a metric")
    of_type_or_none("by", by, (str,), "paradigm or a recipe key")
    if diff is not None:
        texts("diff", diff, "two texts, each naming a recipe")
        if len(diff) != 2:
            raise UserError([Problem("diff", f"must be two texts, each naming a recipe (got {shown(diff)})")])
    found = [read_search(search_folder(storage, name)) for name in names]
    data = comparison(found, Question(sort, tuple(only), by)) if found else {}
    return data if diff is None else {**data, "difference": differing(found, diff, storage)}


def comparison(searches: Sequence[SearchRecords], question: Question | None = None) -> dict[str, Any]:
    """What `report.compare.compare_data` says of searches, with ``importance``, ``recommended`` and ``believed``.

    See `search.importance`; `search.guided.recommend`: the best expected recipe beside the best measured one; and
    `search.guided.outlook`: what searches that learn believe, over paid steps and of each hole.

    Raises:
        UserError: see `report.compare.compare_data`.
    """
    data = compare_data(searches, question)
    from prune_search.search.guided.recommend import recommendations
    from prune_search.search.importance import importance_data

    # Where recipes were repeated, their means say more than what is expected of one measurement.
    once = [search for search in searches if search.name not in data["finalists"]]
    from prune_search.api.believed import believed

    told = {"importance": importance_data(searches), "recommended": recommendations(once)}
    return {**data, **told, "believed": believed(searches)}


def differing(
    searches: Sequence[SearchRecords], sides: tuple[str, str], storage: str | StoragePath | None
) -> dict[str, Any]:
    """Compare two recipes side by side (see `report.differences.difference`).

    Args:
        searches: searches whose trials can be named without the search.
        sides: the two recipes, as for `compare`.
        storage: where other searches are stored.

    Raises:
        UserError: a side is not a trial, search, preset or recipe file; names both sides if both are invalid.
    """
    root = named_storage(storage)
    found: list[Side] = []
    problems: list[Problem] = []
    for side in sides:
        try:
            found.append(_side(searches, side, root))
        except UserError as error:
            problems += error.of("--diff").problems
    if problems:
        raise UserError(problems)
    return difference(*found)


def _side(searches: Sequence[SearchRecords], text: str, root: StoragePath) -> Side:
    found = side_in(searches, text)
    if found is not None:
        return found
    names = list_searches(root)
    search, slash, trial = text.partition("/")
    if search in names and (trial or not slash):
        records = read_search(search_folder(root, search))
        if (found := side_in([records], trial)) is not None:
            return found
        missing = f"no finished trial has the name or key {shown(trial)}" if trial else "no trial has completed"
        raise UserError([Problem("", f"search {search}: {missing}{suggestion(trial, names_in(records))}")])
    if text in PRESETS or Path(text).exists():
        return Side(text, None, None, read_target(text)[0].only_recipe().canonical)
    near = suggestion(text, [*(name for one in searches for name in names_in(one)), *names, *PRESETS])
    problem = "is not a trial of these searches, SEARCH/TRIAL, a search, a preset or a recipe file" + near
    raise UserError([Problem("", f"{shown(text)} {problem}")])


def draw(records: SearchRecords) -> None:
    """Draw the figures of a search next to its records, with the results so far."""
    from prune_search.report.figure_data import FigureData, hang

    try:
        data = comparison([records])
        folder = records.folder / PICTURES
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in hang(FigureData((records,), data)).items():
            put_file(folder / f"{name}.svg", content)
        keep_weights(folder, data["importance"])
    except (StorageError, OSError) as error:
        logger.warning("%s; continuing without figures", one_line(error))


def write_pictures(
    searches: Sequence[SearchRecords], data: dict[str, Any], folder: Path, written: Format = "svg"
) -> list[Path]:
    """Write all figures that have something to show, as NAME.svg or NAME.png.

    Args:
        searches: the compared searches.
        data: from `comparison`.
        folder: target folder; created if needed.
        written: the file format.

    Raises:
        UserError: the folder is not writable.
    """
    from prune_search.report.figure_data import FigureData, hang

    folder = local_folder(folder, "--pictures")
    pictures = hang(FigureData(tuple(searches), data), written=written)
    files = [folder / f"{name}.{written}" for name in pictures]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in zip(files, pictures.values(), strict=True):
            put_file(file, content)
    except (StorageError, OSError) as error:
        raise UserError(
            [Problem("--pictures", f"{shown(str(folder))} cannot be written to: {one_line(error)}")]
        ) from None
    return files


def write_page(searches: Sequence[SearchRecords], data: dict[str, Any], file: Path) -> None:
    """Write the comparison as one self-contained HTML file.

    Args:
        searches: the compared searches.
        data: from `comparison`.
        file: file to write; replaced if it exists.

    Raises:
        UserError: it cannot be written.
    """
    from prune_search.report.explorer import details_of
    from prune_search.report.figure_data import FigureData, hang
    from prune_search.report.page import page

    figure_data = FigureData(tuple(searches), data)
    pictures = hang(figure_data)
    text = page({**data, "details": details_of(searches, data["rows"], figure_data.quality)}, pictures)
    try:
        put_file(file.absolute(), text.encode())
    except (StorageError, OSError) as error:
        raise UserError([Problem("--html", f"{shown(str(file))} cannot be written: {one_line(error)}")]) from None
