"""How much each hole of a search mattered, which decides the order of MLflow's charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prune_search.recipe.problems import UserError
from prune_search.storage.files import put_file
from prune_search.storage.json_files import json_bytes, read_json
from prune_search.storage.places import StoragePath

WEIGHTS_FILE = "importance.json"


def keep_weights(folder: StoragePath, importance: Iterable[Mapping[str, Any]]) -> None:
    """Write down what all trials of a search say of its holes, where they say something.

    Args:
        folder: of the pictures of that search; it exists.
        importance: of that search alone, as a comparison has it.

    Raises:
        StorageError: it could not be written.
    """
    over_all = (one["knobs"] for one in importance if one["sparsity"] is None and one["option"] is None)
    if weights := dict(next(over_all, {})):
        put_file(folder / WEIGHTS_FILE, json_bytes(weights))


def weights_in(folder: StoragePath) -> dict[str, float]:
    """What was written down there: shares between 0 and 1 by the holes' paths; nothing where nothing was."""
    try:
        found = read_json(folder / WEIGHTS_FILE)
    except UserError:
        return {}
    return {name: float(share) for name, share in found.items() if isinstance(share, int | float)}
