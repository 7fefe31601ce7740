"""The digest by which moved weights are known to follow from the same ones."""

from __future__ import annotations

import torch

from prune_search.pruning.mask.moved_weights import weights_digest


def test_a_digest_is_of_names_shapes_types_and_values() -> None:
    one = torch.arange(6.0).reshape(2, 3)
    known = weights_digest([("a", one)])
    assert weights_digest([("a", one.T.contiguous().T)]) == known
    others = [("b", one), ("a", one.reshape(3, 2)), ("a", one.double()), ("a", one + 1), ("a", one.bfloat16())]
    assert known not in {weights_digest([other]) for other in others}
