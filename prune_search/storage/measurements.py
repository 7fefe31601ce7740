"""Stores measurements like states, by what was measured on which network, so each is made only once.

    <storage>/measurements/<aa>/<key>.json

A trial that finds all its states stored does not evaluate them again, and a new kind of measurement is taken of old
networks without training them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import canonical_json, digest_of
from prune_search.storage.files import StorageError, put_file
from prune_search.storage.json_files import read_json
from prune_search.storage.places import StoragePath

FOLDER = "measurements"
FORMAT = 1


@dataclass(frozen=True)
class Measurements:
    """What was measured on a storage.

    Attributes:
        storage: of the states; None where nothing is stored.
    """

    storage: StoragePath | None

    def of(self, what: Mapping[str, Any], measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """A measurement: the stored one, or taken now and stored.

        Args:
            what: everything that the figures depend on, as plain data: the network's vertex, the mask, the data, the
                kind of measurement, the environment.
            measure: takes it; finite or not, each figure is stored as it is.
        """
        if self.storage is None:
            return dict(measure())
        found = self.stored(what)
        if found is None:
            found = {name: float(value) for name, value in measure().items()}
            self.store(what, found)
        return found

    def stored(self, what: Mapping[str, Any]) -> dict[str, float] | None:
        """A measurement that was stored; None where there is none."""
        path = self._path(what)
        return None if path is None else _read(path)

    def store(self, what: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """Store a measurement that was taken."""
        path = self._path(what)
        if path is not None:
            _write(path, figures)

    def _path(self, what: Mapping[str, Any]) -> StoragePath | None:
        if self.storage is None:
            return None
        key = digest_of(what)
        return self.storage / FOLDER / key[:2] / f"{key}.json"


def _read(path: StoragePath) -> dict[str, float] | None:
    """The figures of a file; None where it is missing, altered, or of another format, or cannot be read now."""
    try:
        content = read_json(path)
        figures = {str(name): float(value) for name, value in content["figures"].items()}
    except (UserError, StorageError, KeyError, TypeError, ValueError, AttributeError):
        # Where a service is away it is taken anew as well.
        return None
    intact = content.get("format") == FORMAT and content.get("sha256") == _digest(figures)
    return figures if intact else None


def _write(path: StoragePath, figures: Mapping[str, float]) -> None:
    # What is no finite number is written as text, which float() reads.
    written = {name: repr(value) for name, value in figures.items()}
    content = {"format": FORMAT, "figures": written, "sha256": _digest(figures)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_file(path, json.dumps(content, allow_nan=False).encode(), lasting=False)
    except (OSError, StorageError):
        # It is taken again where it is asked for again.
        return


def _digest(figures: Mapping[str, float]) -> str:
    return digest_of(canonical_json({name: repr(value) for name, value in figures.items()}))
