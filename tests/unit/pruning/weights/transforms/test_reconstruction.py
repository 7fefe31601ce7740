"""Least-squares reconstruction, against numpy.linalg.lstsq."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.weights.transforms.reconstruction import (
    Layer,
    _outputs,
    least_squares,
    scaling,
)
from prune_search.tasks.network import prunable_weights
from prune_search.tasks.patches import patches
from prune_search.training.segment import MODEL, load_model
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.rounds import rounds_of


@pytest.mark.parametrize("ridge", [0.0, 1e-12])
def test_each_row_solves_its_own_least_squares_problem(ridge: float) -> None:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(60, 8, dtype=torch.float64, generator=source)
    y = torch.randn(60, 5, dtype=torch.float64, generator=source)
    mask = torch.rand(5, 8, generator=source) < 0.6
    mask[3] = False
    mask[4] = mask[0]
    found = least_squares(x, y, mask, ridge).numpy()
    for row, kept in enumerate(mask.numpy()):
        wanted = np.zeros(8)
        if kept.any():
            wanted[kept] = np.linalg.lstsq(x.numpy()[:, kept], y.numpy()[:, row], rcond=None)[0]
        np.testing.assert_allclose(found[row], wanted, rtol=1e-8, atol=1e-10)


def test_without_a_ridge_of_many_solutions_the_smallest_is_taken() -> None:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(20, 4, dtype=torch.float64, generator=source)
    x = torch.cat([x, x[:, :1], torch.zeros(20, 1, dtype=torch.float64)], dim=1)
    y = torch.randn(20, 2, dtype=torch.float64, generator=source)
    found = least_squares(x, y, torch.ones(2, 6, dtype=torch.bool), 0.0).numpy()
    np.testing.assert_allclose(found, np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0].T, rtol=1e-7, atol=1e-9)
    assert not least_squares(torch.zeros(9, 3), torch.ones(9, 1), torch.ones(1, 3, dtype=torch.bool), 1e-6).any()


def test_a_ridge_pulls_the_change_to_zero() -> None:
    source = torch.Generator().manual_seed(2)
    x = torch.randn(50, 6, dtype=torch.float64, generator=source)
    y = torch.randn(50, 1, dtype=torch.float64, generator=source)
    rho = 0.5 * float(x.square().sum(0).mean())
    wide = np.concatenate([x.numpy(), np.sqrt(rho) * np.eye(6)])
    wanted = np.linalg.lstsq(wide, np.concatenate([y.numpy(), np.zeros((6, 1))]), rcond=None)[0].T
    found = least_squares(x, y, torch.ones(1, 6, dtype=torch.bool), 0.5).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("kernel", [1, 3])
def test_one_factor_per_channel_is_numpy_s_solution_over_all_outputs(kernel: int) -> None:
    """Luo et al. 2017, eq. 7: every column is what a channel adds to one output of one sample."""
    source = torch.Generator().manual_seed(3)
    channels, rows, samples = 4, 5, 30
    x = torch.randn(samples, channels * kernel, dtype=torch.float64, generator=source)
    weights = torch.randn(rows, channels * kernel, dtype=torch.float64, generator=source)
    mask = torch.ones(rows, channels * kernel, dtype=torch.bool)
    mask[:, kernel : 2 * kernel] = False
    mask[0, 0] = False
    weights = weights.masked_fill(~mask, 0.0)
    missing = torch.randn(samples, rows, dtype=torch.float64, generator=source)
    found = scaling(Layer(x, missing, weights, mask, kernel), 0.0)
    adds = torch.einsum("sck,rck->src", x.reshape(samples, channels, kernel), weights.reshape(rows, channels, kernel))
    kept = [0, 2, 3]
    columns = adds.reshape(-1, channels).numpy()[:, kept]
    wanted = np.zeros(channels)
    wanted[kept] = np.linalg.lstsq(columns, missing.reshape(-1).numpy(), rcond=None)[0]
    np.testing.assert_allclose(found, weights.numpy() * np.repeat(wanted, kernel), rtol=1e-9, atol=1e-12)


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(6, 4), (3, 6)),
    (nn.Linear(6, 4), (3, 5, 6)),
    (nn.Conv2d(4, 6, 3, padding=1, stride=2), (2, 4, 7, 6)),
    (nn.Conv2d(4, 6, (3, 2), dilation=(2, 1), groups=2, bias=False), (2, 4, 9, 6)),
    (nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular", groups=4), (2, 4, 5, 5)),
    (nn.Conv1d(3, 5, 4, padding=2), (2, 3, 11)),
    (nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_outputs_are_what_is_seen_times_the_weight(layer: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(shape)
    seen, out = patches(layer, inputs), _outputs(layer, layer(inputs))
    assert seen is not None
    rows = layer.weight.reshape(seen.shape[1], -1, seen.shape[-1])
    again = torch.einsum("ngpi,goi->ngpo", seen, rows)
    if layer.bias is not None:
        again = again + layer.bias.reshape(1, seen.shape[1], 1, -1)
    torch.testing.assert_close(again, out, rtol=1e-4, atol=1e-5)


def test_a_transposed_convolution_is_left_alone() -> None:
    assert patches(nn.ConvTranspose2d(2, 3, 2), torch.zeros(1, 2, 4, 4)) is None


def change(setup: Any, before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Mean square difference of the logits on validation data, over the mean square of the logits."""
    logits = []
    for tensors in (before, after):
        load_model(setup.model, tensors)
        setup.model.eval()
        with torch.no_grad():
            logits.append(setup.model(setup.data.validation.inputs))
    return float((logits[1] - logits[0]).square().mean() / logits[0].square().mean())


@pytest.mark.parametrize("granularity", ["weight", "filter", "channel"])
def test_a_trial_s_fitted_layers_are_nearer_to_the_network_that_was(setup_of: Any, granularity: str) -> None:
    raw = {
        "task": {"model": {"name": "small-conv", "channels": [8, 8]}, "seed": 1},
        "train": {"steps": "3ep"},
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.5, "granularity": granularity},
        "weights": {"at": "end"},
        "retrain": "none",
    }
    found = []
    fits = ("least-squares-reconstruction", "least-squares-scaling")
    for transform in ([], *([{"name": name, "batches": 4}] for name in fits)):
        setup = setup_of({**raw, "weights": {"at": "end", "transform": transform}})
        first, (item,) = rounds_of(setup, StateStore(None, Steps()))
        after = dict(item.result)
        found.append(change(setup, dict(first.end().tensors), after))
        assert all(bool((after[MODEL + name][~mask] == 0).all()) for name, mask in item.masks.items())
        if transform == [{"name": "least-squares-scaling", "batches": 4}]:
            for name, mask in item.masks.items():
                factors = (after[MODEL + name] / first.end().tensors[MODEL + name]).masked_fill(~mask, torch.nan)
                by_channel = factors.transpose(0, 1).flatten(1)
                spread = by_channel.nan_to_num(-torch.inf).amax(1) - by_channel.nan_to_num(torch.inf).amin(1)
                assert bool((spread[mask.transpose(0, 1).flatten(1).any(1)] < 1e-4).all())
    assert found[1] < 0.8 * found[0]
    assert found[1] < found[2] < found[0]


def test_the_first_layer_of_a_trial_is_numpy_s_least_squares_solution(setup_of: Any) -> None:
    """Half of the weights of a perceptron's layers; every row over what its mask keeps, on the very same examples."""
    raw = {
        "task": {"model": {"name": "mlp", "hidden": [12]}, "seed": 1},
        "train": {"steps": "2ep"},
        "mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.5, "scope": "uniform"},
        "weights": {"at": "end", "transform": [{"name": "least-squares-reconstruction", "batches": 8, "ridge": 0.0}]},
        "retrain": "none",
    }
    setup = setup_of(raw)
    first, (item,) = rounds_of(setup, StateStore(None, Steps()))
    after, before = item.result, first.end().tensors
    feed = setup.feed("weights.transform.0", 1)
    inputs = torch.cat([feed(number)[0] for number in range(8)])
    (one, two) = list(prunable_weights(setup.model))
    x = inputs.flatten(1).double().numpy()
    biases = {name: before[MODEL + name.replace("weight", "bias")].double().numpy() for name in (one, two)}

    def solved(name: str, seen: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        wanted = np.zeros(item.masks[name].shape)
        start = before[MODEL + name].double().numpy()
        for row, kept in enumerate(item.masks[name].numpy()):
            left = target[:, row] - seen[:, kept] @ start[row, kept]
            wanted[row, kept] = start[row, kept] + np.linalg.lstsq(seen[:, kept], left, rcond=1e-6)[0]
        return wanted

    w1, w2 = (before[MODEL + name].double().numpy() for name in (one, two))
    fitted = solved(one, x, x @ w1.T)
    np.testing.assert_allclose(after[MODEL + one].numpy(), fitted, rtol=1e-3, atol=1e-4)
    hidden = np.maximum(x @ w1.T + biases[one], 0)
    now = np.maximum(x @ fitted.T + biases[one], 0)
    np.testing.assert_allclose(after[MODEL + two].numpy(), solved(two, now, hidden @ w2.T), rtol=1e-3, atol=1e-4)
