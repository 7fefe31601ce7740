"""The tasks that the tests here train, and the space that is searched over each of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

import prune_search

# By task: the metric of its own, and which way is better.
METRICS: Mapping[str, tuple[str, str]] = {
    "regression": ("r2", "maximize"),
    "multi_label": ("f1", "maximize"),
    "imbalanced": ("auroc", "maximize"),
    "language_model": ("bits-per-byte", "minimize"),
    "two_inputs": ("accuracy", "maximize"),
    "stream": ("accuracy", "maximize"),
    "unet": ("psnr", "maximize"),
    "bert": ("accuracy", "maximize"),
    "vit": ("accuracy", "maximize"),
    "convnext": ("accuracy", "maximize"),
    "pictures": ("accuracy", "maximize"),
}
OF_TRANSFORMERS = {"bert", "vit", "convnext"}
# Those with filters in them.
WITH_FILTERS = {"unet", "convnext", "pictures"}
SHORT: Mapping[str, Any] = {"train.steps": "12it", "train.batch": 16}
PICTURES: Mapping[str, Any] = {
    "task.data": {
        "name": "image-folder",
        "folder": "pictures",
        "size": 10,
        "augment": ["flip"],
        "workers": 2,
    },
    "task.model": {"name": "small-conv", "channels": [4, 6]},
}
GROWING = {"name": "growing-penalty", "step": 0.3, "every": "2it", "stabilise": "2it", "optimizer": {"lr": 0.001}}
PARADIGMS: Mapping[str, Mapping[str, Any]] = {
    "fine-tune": {"mask": {"sparsity": 0.6}, "retrain": {"steps": "4it"}},
    "snip": {"mask": {"sparsity": 0.6}},
    "gradual-magnitude": {"mask": {"sparsity": 0.6}},
    "greg-1": {
        "mask": {"sparsity": 0.4, "scope": {"name": "uniform", "exclude": []}},
        "weights": {"transform": [GROWING]},
        "retrain": {"steps": "4it", "schedule": "constant"},
    },
}
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name in OF_TRANSFORMERS and importlib.util.find_spec("transformers") is None,
            reason="transformers is not installed",
        ),
    )
    for name in METRICS
]


def paradigms(name: str) -> list[str]:
    """The presets that a task is pruned by."""
    return [preset for preset in PARADIGMS if preset != "greg-1" or name in WITH_FILTERS]


def given(name: str, root: Path) -> tuple[dict[str, Any], prune_search.Where]:
    """What a recipe of a task sets, and where it runs."""
    where: dict[str, Any] = {"storage": root / "storage", "data_root": root}
    if name != "pictures":
        return dict(SHORT), prune_search.Where(task=f"made_tasks:{name}", **where)
    write_pictures(root / "pictures")
    return {**SHORT, **PICTURES}, prune_search.Where(**where)


def space(name: str) -> str:
    """A space of six trials over every paradigm of a task, and over a hole of sparsity."""
    lines = ["mask: {sparsity: {hole: uniform, low: 0.3, high: 0.8}}", "any:"]
    for preset in paradigms(name):
        blocks = {key: dict(block) for key, block in PARADIGMS[preset].items()}
        blocks["mask"].pop("sparsity")
        lines.append(
            f"- {{preset: {preset}, {', '.join(f'{key}: {block}' for key, block in blocks.items() if block)}}}"
        )
    metric, way = METRICS[name]
    lines.append(
        "search: {trials: 6, concurrency: 2, reproducible: true, seed: 3, controls: false, "
        f"objectives: [{way} val/{metric}, maximize sparsity]}}"
    )
    return "\n".join(lines).replace(", }", "}").replace("'", '"') + "\n"


def write_pictures(folder: Path) -> None:
    """Two classes of small PNGs, bright above or below; written once."""
    if folder.exists():
        return
    draw = numpy.random.default_rng(0)
    for label in range(2):
        (folder / f"class {label}").mkdir(parents=True)
        for number in range(30):
            levels = draw.integers(0, 120, (12, 11, 3))
            levels[6 * label : 6 * label + 6] += 100
            Image.fromarray(levels.astype(numpy.uint8)).save(folder / f"class {label}" / f"{number}.png")
