"""Optimal brain surgeon's step: on a quadratic it is the best that the kept weights can do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.weights.transforms.compensation import compensated
from prune_search.training.segment import MODEL
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.rounds import rounds_of


def spd(size: int, seed: int = 0) -> Tensor:
    root = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def test_removing_one_weight_is_hassibi_and_stork_s_step_and_costs_their_saliency() -> None:
    hessian = spd(7)
    inverse = torch.linalg.inv(hessian)
    weight = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for q in range(7):
        mask = torch.arange(7) != q
        found = compensated(weight, mask, inverse[None])
        unit = torch.eye(7, dtype=torch.float64)[q]
        step = -weight[q] / inverse[q, q] * (inverse @ unit)
        torch.testing.assert_close(found, weight + step, rtol=1e-10, atol=1e-12)
        assert float(found[q]) == 0.0
        away = found - weight
        rise = 0.5 * away @ hessian @ away
        torch.testing.assert_close(rise, weight[q] ** 2 / (2 * inverse[q, q]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("removed", [0.0, 0.3, 0.6, 1.0])
def test_removing_a_set_gives_the_least_loss_among_the_weights_with_its_zeros(removed: float) -> None:
    """Around w* the loss ½ (v - w*)ᵀH(v - w*) over the kept v_K: H_KK v_K = H_K w*, by numpy and block by block."""
    source = torch.Generator().manual_seed(3)
    weight = torch.randn(4, 5, dtype=torch.float64, generator=source)
    mask = torch.rand(4, 5, generator=source) >= removed
    # Blocks of 8: the last has 4 weights and is filled up.
    blocks = [spd(8, seed) for seed in range(3)]
    found = compensated(weight, mask, torch.stack([torch.linalg.inv(block) for block in blocks]))
    for number, block in enumerate(blocks):
        w = np.zeros(8)
        kept = np.zeros(8, dtype=bool)
        part = slice(8 * number, min(8 * number + 8, 20))
        size = part.stop - part.start
        w[:size] = weight.flatten()[part].numpy()
        kept[:size] = mask.flatten()[part].numpy()
        kept[size:] = True
        h, wanted = block.numpy(), np.zeros(8)
        wanted[kept] = np.linalg.solve(h[np.ix_(kept, kept)], h[kept] @ w)
        np.testing.assert_allclose(found.flatten()[part].numpy(), wanted[:size], rtol=1e-9, atol=1e-11)
    assert bool((found[~mask] == 0).all())
    assert not bool(torch.signbit(found[~mask]).any())


def test_in_a_trial_the_weights_are_the_minimiser_for_the_empirical_fisher_matrix(setup_of: object) -> None:
    raw = {
        "preset": "obs",
        "task": {"model": {"name": "mlp", "hidden": [3]}, "seed": 1},
        "train": {"steps": "2ep", "batch": 64},
        "mask": {"criterion": {"name": "obs", "block": 40}, "score": {"batches": 1}},
        "weights": {
            "at": "end",
            "transform": [{"name": "obs-compensation", "block": 40, "damping": 0.01, "batches": 2}],
        },
        "retrain": "none",
    }
    setup = setup_of(raw)  # type: ignore[operator]
    first, (item,) = rounds_of(setup, StateStore(None, Steps()))
    after, before = item.result, first.end().tensors
    name = next(key for key, mask in item.masks.items() if mask.shape[0] == 10)
    model = setup.model
    model.load_state_dict({key.removeprefix(MODEL): value for key, value in before.items() if key.startswith(MODEL)})
    weight = dict(model.named_parameters())[name]
    feed = setup.feed("weights.transform.0", 1)
    rows = []
    for number in range(2):
        inputs, labels = feed(number)
        for one in range(len(labels)):
            loss = nn.functional.cross_entropy(model(inputs[one : one + 1]), labels[one : one + 1])
            rows.append(torch.autograd.grad(loss, weight)[0].flatten().double())
    gradients = torch.stack(rows)
    fisher = (gradients.T @ gradients / len(rows)).numpy() + 0.01 * np.eye(30)
    kept, w = item.masks[name].flatten().numpy(), before[MODEL + name].flatten().double().numpy()
    wanted = np.zeros(30)
    wanted[kept] = np.linalg.solve(fisher[np.ix_(kept, kept)], fisher[kept] @ w)
    assert kept.sum() == 15
    np.testing.assert_allclose(after[MODEL + name].flatten().numpy(), wanted, rtol=1e-4, atol=1e-6)
