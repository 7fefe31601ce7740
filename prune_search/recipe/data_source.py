"""What is known of a data set before it is read, from how a recipe or a space names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.facts import DataSource
from prune_search.recipe.fields import Value
from prune_search.recipe.named import Named
from prune_search.recipe.reading import BAD, Reading


def source_of(data: object) -> DataSource:
    """The facts of a data set as ``task.data`` names it, with its options.

    Args:
        data: as it is written, in part or with holes too.

    Returns:
        Where the name is not registered, nothing; where an option cannot be read (a hole), what the default options
        make.
    """
    name: Any = data.get("name") if isinstance(data, Mapping) else data
    entry = axes.DATASETS.get(name) if isinstance(name, str) else None
    if entry is None:
        return DataSource()
    if entry.facts.with_options is None:
        return entry.facts
    written = Value(axes.DATASETS).read(data, "", Reading())
    return entry.facts if written is BAD else entry.facts.having(Named.of(axes.DATASETS, written).options)
