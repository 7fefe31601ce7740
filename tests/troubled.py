"""Criteria that make trouble, as a plugin of the workers: what they do is told by files in a folder."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from real_search import HANG, HANG_ONCE, LATE, TROUBLE

from prune_search.recipe.axes import CRITERIA

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


@CRITERIA.register("hanging", summary="magnitude; it never ends where a file says so, once or always")
def hanging(scoring: Scoring) -> Scores:
    """Magnitude."""
    once = _folder() / HANG_ONCE
    hangs = (_folder() / HANG).exists() or once.exists()
    once.unlink(missing_ok=True)
    while hangs:
        time.sleep(1)
    return _magnitude(scoring)


@CRITERIA.register("broken", summary="raises an error")
def broken(scoring: Scoring) -> Scores:
    """Nothing."""
    raise ValueError("this criterion is broken")
