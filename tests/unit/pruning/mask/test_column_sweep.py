"""The sweep over the columns of a layer. Against a slow definition it is tested in `test_block_order`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prune_search.pruning.mask.column_sweep import Sweep
from prune_search.pruning.mask.layerwise import Keeping
from prune_search.pruning.mask.mask_set import ScoreError


def layer(rows: int = 6, inputs: int = 20) -> tuple[Tensor, Tensor]:
    """A weight, and what comes into it."""
    source = torch.Generator().manual_seed(1)
    mixed = torch.randn(inputs, inputs, generator=source)
    return torch.randn(rows, inputs, generator=source), torch.randn(200, inputs, generator=source) @ mixed


def test_counts_are_exact_whatever_the_slices_are() -> None:
    weight, x = layer()
    for columns in (1, 7, 20, 128):
        sweep = Sweep(columns=columns)
        for count in (0, 1, 59, 60, 119, 120):
            mask, moved = sweep.pruned(weight, sweep.root(x.T @ x), Keeping(count))
            assert (int(mask.sum()), mask.shape, moved.shape) == (count, weight.shape, weight.shape)
            assert bool((moved[~mask] == 0).all())


def test_the_outputs_change_less_than_without_the_update() -> None:
    weight, x = layer()
    mask, moved = (sweep := Sweep()).pruned(weight, sweep.root(x.T @ x), Keeping(60))
    left, masked = (float((x @ (weight - other).T).square().sum()) for other in (moved, weight * mask))
    assert left < 0.9 * masked
    again = sweep.compensated(weight, sweep.root(x.T @ x), mask)
    assert torch.equal(again, moved)


def test_what_was_removed_before_stays_removed_and_runs_keep_their_number() -> None:
    weight, x = layer()
    allowed = torch.rand(6, 20, generator=torch.Generator().manual_seed(2)) < 0.5
    sweep = Sweep(columns=7)
    mask, _ = sweep.pruned(weight, sweep.root(x.T @ x), Keeping(30, allowed=allowed))
    assert int(mask.sum()) == 30
    assert not bool((mask & ~allowed).any())
    in_runs, _ = sweep.pruned(weight, sweep.root(x.T @ x), Keeping(2, run=5))
    assert in_runs.reshape(-1, 5).sum(1).tolist() == [2] * 24


def test_an_input_that_is_always_zero_has_a_root_by_the_damping_alone() -> None:
    weight, x = layer()
    x[:, 3] = 0
    mask, moved = (sweep := Sweep()).pruned(weight, sweep.root(x.T @ x), Keeping(60))
    assert bool(torch.isfinite(moved).all())
    assert int(mask[:, 3].sum()) <= 1
    few = torch.randn(3, 20)
    with pytest.raises(ScoreError, match=r"no Cholesky root with damping 0: raise the damping"):
        Sweep(damping=0.0).root(few.T @ few)
