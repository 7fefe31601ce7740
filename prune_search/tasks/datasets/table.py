"""Tables from CSV and Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.fields import Flag, ListOf, Number, Text, Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.tasks.task import Task


@DATASETS.register(
    "table",
    summary="rows of a CSV or Parquet file: numbers standardised, categories one-hot; a target column to predict",
    options={
        "file": Option(Text(), doc="CSV or Parquet file with the training rows, below --data-root"),
        "target": Option(Text(), doc="column to predict"),
        "validation": Option(Text(), None, "file with the validation rows"),
        "test": Option(Text(), None, "file with the test rows"),
        "split": Option(Number(0.0, 1.0, above=True, below=True), 0.1, "share held out for each part without a file"),
        "task": Option(
            Word(("classification", "regression")), None, "kind of the target; default: guessed from its values"
        ),
        "drop": Option(ListOf(Text(), 0, 10_000), [], "columns to leave out"),
        "missing": Option(Word(("refuse", "mean")), "refuse", "empty cells: an error, or the training part's mean"),
        "categories": Option(
            Word(("one-hot", "codes")), "one-hot", "columns of texts: one input per text, or one number"
        ),
        "scale_target": Option(Flag(), False, "standardise the numbers to predict; errors are then in deviations"),
        "separator": Option(Word(("comma", "semicolon", "tab")), "comma", "separator of CSV cells"),
    },
)
def table(
    root: Path | None,
    *,
    file: str,
    target: str,
    split: float,
    drop: Sequence[str],
    missing: str,
    categories: str,
    scale_target: bool,
    separator: str,
    validation: str | None = None,
    test: str | None = None,
    task: str | None = None,
) -> Task:
    """The rows of a table as a task: float32 [F], and a class or a number.

    Args:
        root: the folder of --data-root, which files are relative to.
        file: with the training rows.
        target: the column to predict.
        split: share of the training rows that is held out for validation where it has no file, and for the test where
            neither has one; stratified by class, the same for all trials.
        drop: columns that are left out.
        missing: ``refuse`` or ``mean``.
        categories: ``one-hot`` or ``codes``.
        scale_target: whether numbers to predict are standardised.
        separator: ``comma``, ``semicolon`` or ``tab``.
        validation: the file with the validation rows.
        test: the file with the test rows.
        task: ``classification`` or ``regression``; None: as the target's values show.

    Raises:
        UserError: everything that is wrong with the files.
    """
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.tasks.kinds.paths import below_root
    from prune_search.tasks.kinds.table import Reading, encoded
    from prune_search.tasks.kinds.table_files import Column, read_table
    from prune_search.tasks.task import Task

    files: dict[str, tuple[Path, dict[str, Column]]] = {}
    problems: list[Problem] = []
    for part, key, name in (("train", "file", file), ("validation", "validation", validation), ("test", "test", test)):
        if name is not None:
            try:
                path = below_root(root, name, f"task.data.{key}")
                files[part] = (path, read_table(path, f"task.data.{key}", separator))
            except UserError as error:
                problems += error.problems
    if problems:
        raise UserError(problems)
    reading = Reading(target, task, tuple(drop), missing, categories, scale_target)
    made = encoded(files, reading, split)
    return Task(
        train=made.parts["train"],
        validation=made.parts["validation"],
        test=made.parts.get("test"),
        loss="cross-entropy" if made.classes else "mse",
        metrics=("accuracy",) if made.classes else ("rmse", "r2"),
        # Of numbers to predict, how many outputs the network has.
        classes=len(made.classes) or 1,
        name="table",
    )
