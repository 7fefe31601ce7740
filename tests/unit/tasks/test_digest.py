"""The digest of tensors: names, shapes, types and bytes count, and nothing else."""

from __future__ import annotations

import torch

from prune_search.tasks.digest import ordered_tensors_digest as digest

X = torch.arange(6.0).reshape(2, 3)


def test_layout_and_memory_do_not_count() -> None:
    one = digest([("x", X)])
    assert digest([("x", X.T.contiguous().T)]) == one
    assert digest([("x", torch.arange(12.0)[::2].mul(0.5).reshape(2, 3))]) == one
    assert digest([("x", X.clone().requires_grad_())]) == one
    assert len(one) == 64


def test_every_other_thing_counts() -> None:
    found = {
        digest(named)
        for named in (
            [("x", X)],
            [("y", X)],
            [("x", X.reshape(3, 2))],
            [("x", X.double())],
            [("x", X), ("y", X)],
            [("y", X), ("x", X)],
            [("x", torch.tensor(0.0))],
            [("x", torch.tensor(-0.0))],
            [("x", torch.zeros(0))],
            [("x", torch.zeros(1, dtype=torch.bfloat16))],
            [],
        )
    }
    assert len(found) == 11
