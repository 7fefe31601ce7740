"""Criteria that make trouble, as a plugin of the workers: what they do is told by files in a folder."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from real_search import HANG, LATE, TROUBLE

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import REQUIRED, Option

if TYPE_CHECKING:
    from prune_search.pruning.scoring import Scores, Scoring


def _folder() -> Path:
    return Path(os.environ[TROUBLE])


def _magnitude(scoring: Scoring) -> Scores:
    return {name: weight.abs() for name, weight in scoring.dense.items()}


@CRITERIA.register("late", summary="magnitude, after up to as many seconds as the file says")
def late(scoring: Scoring) -> Scores:
    """Magnitude."""
    file = _folder() / LATE
    if file.exists():
        time.sleep(random.uniform(0, float(file.read_text())))
    return _magnitude(scoring)


@CRITERIA.register(
    "hanging",
    summary="magnitude; it never ends where there is a file of its number",
    options={"number": Option(Integer(0, 9), REQUIRED, "of the file")},
)
def hanging(scoring: Scoring, *, number: int) -> Scores:
    """Magnitude."""
    while (_folder() / f"{HANG}{number}").exists():
        time.sleep(1)
    return _magnitude(scoring)


@CRITERIA.register("broken", summary="raises an error")
def broken(scoring: Scoring) -> Scores:
    """Nothing."""
    raise ValueError("this criterion is broken")
