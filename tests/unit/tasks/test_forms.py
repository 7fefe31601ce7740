"""How batches are written in messages."""

from __future__ import annotations

import numpy
import torch

from prune_search.tasks.forms import LONGEST, batch_form, form, shortened


def test_parts_shapes_and_types_other_than_the_usual() -> None:
    batch = {"ids": torch.zeros(2, 3, dtype=torch.int32), "rest": [torch.zeros(2), numpy.zeros(4), "words"]}
    assert form(batch) == "{ids: [2, 3], rest: ([2], [4], str)}"
    assert batch_form(batch) == "{ids: [2, 3] int32, rest: ([2], [4] float64, str)}"


def test_long_ones_are_cut() -> None:
    assert len(shortened(form([torch.zeros(1)] * 500))) == LONGEST
