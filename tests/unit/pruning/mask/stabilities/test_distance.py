"""The distance of two masks: the share of units in which they differ."""

from __future__ import annotations

import torch

from prune_search.pruning.mask.stabilities.distance import mask_distance


def test_it_is_the_share_of_units_in_which_they_differ() -> None:
    one = {"a": torch.tensor([True, True, False, False]), "b": torch.tensor([True] * 6)}
    other = {"a": torch.tensor([True, False, True, False]), "b": torch.tensor([True] * 5 + [False])}
    assert mask_distance(one, one) == 0.0
    assert mask_distance(one, other) == mask_distance(other, one) == 0.3


def test_masks_without_units_do_not_differ() -> None:
    assert mask_distance({}, {}) == 0.0
