"""Divides the rows of one data set into parts, for those that have no data of their own."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from prune_search.tasks.data import split_indices
from prune_search.tasks.kinds.paths import wrong


def missing_parts(present: Collection[str]) -> list[str]:
    """The parts that are held out of the training rows: validation, and test where there is one set only."""
    return [
        part for part in ("test", "validation") if part not in present and (part == "validation" or len(present) == 1)
    ]


def held_out(labels: Tensor, parts: Collection[str], share: float, noun: str) -> dict[str, Tensor]:
    """The rows of the training part and of each that is held out, as indices into the set.

    Args:
        labels: int64 [N], of all rows of the set; zeros where there are no classes.
        parts: that are held out.
        share: of the N rows, for each of them; stratified, the same for all trials.
        noun: what the rows are called in a message.

    Raises:
        UserError: there are too few rows.
    """
    total = len(labels)
    rows = {"train": torch.arange(total)}
    count = round(share * total)
    if parts and (count < 1 or total - count * len(parts) < 1):
        text = f"{share:g} of {total} {noun} cannot be held out for {' and '.join(parts)}"
        raise wrong("task.data.split", text + (" each" if len(parts) > 1 else ""))
    for part in parts:
        mine = rows["train"]
        rest, held = split_indices(labels[mine], count)
        rows[part], rows["train"] = mine[held], mine[rest]
    return rows
