"""Where the real data sets lie, for the tests that read them, and small ones that tests write."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.fields import Value
from prune_search.recipe.named import Named
from prune_search.recipe.problems import UserError
from prune_search.recipe.reading import Reading
from prune_search.tasks.task import Task

Write = Callable[..., Path]


@pytest.fixture
def data_root() -> Path:
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    root = Path(os.environ.get("PRUNE_SEARCH_DATA", beside))
    if not root.is_dir():
        pytest.skip("no real data sets: name their folder in PRUNE_SEARCH_DATA")
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, from which modules can be imported that are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.fixture
def pictures(tmp_path: Path) -> Write:
    """Writes `count` noisy PNGs of one brightness per class into tmp_path/NAME/PART/CLASS and returns tmp_path."""

    def write(name: str = "pets", count: int = 10, parts: tuple[str, ...] = ("",), side: int = 12) -> Path:
        draw = numpy.random.default_rng(0)
        for part in parts:
            for label, kind in enumerate(("cat", "dog", "eel")):
                folder = tmp_path / name / part / kind
                folder.mkdir(parents=True)
                for index in range(count):
                    levels = draw.integers(0, 60, (side, side + 4, 3), dtype=numpy.uint8) + numpy.uint8(80 * label)
                    Image.fromarray(levels).save(folder / f"{index:02d}.png")
        return tmp_path

    return write


@pytest.fixture
def made() -> Callable[..., Task]:
    """The task that a data set makes of options as a recipe has them."""

    def make(root: Path | None, name: str, **options: Any) -> Task:
        reading = Reading()
        written = Value(DATASETS).read({"name": name, **options}, "task.data", reading)
        if reading.problems:
            raise UserError(reading.problems)
        named = Named.of(DATASETS, written)
        return named.entry(DATASETS).build(Task, root, **named.options)

    return make
