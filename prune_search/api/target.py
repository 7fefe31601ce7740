"""Finds what a command refers to: a recipe, a space, a preset, or an existing search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prune_search.recipe.argument_types import PATH, of_type
from prune_search.recipe.axes import PRESETS
from prune_search.recipe.problems import Problem, UserError, not_one_of
from prune_search.recipe.shipped import shipped_names, shipped_space
from prune_search.recipe.space import Space, find, read_space

Target = str | Path | Mapping[str, Any]


def check_target(target: Target | Space) -> None:
    """Refuse what can be no target.

    Raises:
        UserError: it is no name, path, plain data or space.
    """
    of_type("target", target, (*PATH, Mapping, Space), "the name of a preset or space, a path, or plain data")


def read_target(target: Target, sets: Sequence[tuple[str, Any]] = ()) -> tuple[Space, Path | None]:
    """A recipe, space or preset, and the folder of its file.

    Args:
        target: a file, an exported folder, the name of a preset, or plain data.
        sets: keys and values, as ``--set`` has them.

    Raises:
        UserError: with everything that is wrong with it.
    """
    check_target(target)
    if isinstance(target, Mapping):
        return read_space(target, "recipe", sets), None
    raw, source = find(str(target))
    path = Path(source)
    folder = path.parent if path.exists() else None
    return read_space(raw, source, sets), folder


def read_search_space(target: Target | Space, sets: Sequence[tuple[str, Any]] = ()) -> Space:
    """A space that is to be searched.

    Args:
        target: a file, the name of a shipped space, or plain data; or a space that was read before, its values set.
        sets: keys and values, as ``--set`` has them; of no account for a space that was read before.

    Raises:
        UserError: with everything that is wrong with it, or there is nothing to search over.
    """
    space = target if isinstance(target, Space) else read_target(found(target), sets)[0]
    if not space.has_holes:
        text = (
            "has no holes, so there is nothing to search over: use prune-search run, or put a hole in place of a value"
        )
        raise UserError([Problem("", text, space.source)])
    return space


def found(target: Target) -> Target:
    """The file of a shipped space; everything else as it is.

    Raises:
        UserError: a name that neither a file, a shipped space nor a preset has.
    """
    if not isinstance(target, str):
        return target
    shipped, path = shipped_space(target), Path(target)
    # What looks like a file is one that is missing.
    is_name = path.name == target and path.suffix not in (".yaml", ".yml")
    if shipped is None and is_name and target not in PRESETS and not path.exists():
        text = f"is neither a file nor a space that ships with the package: {not_one_of(target, shipped_names())}"
        raise UserError([Problem("", text, target)])
    return shipped or target
