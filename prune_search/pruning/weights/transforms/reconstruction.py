"""Least-squares reconstruction: layer by layer, fits the kept weights to the network's original outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prune_search.recipe.axes import TRANSFORMS
from prune_search.recipe.facts import Transform
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.weights.context import TransformContext
else:
    from prune_search.lazy import torch

Note = Callable[[str, "nn.Module", "Tensor", "Tensor"], None]


def least_squares(inputs: Tensor, missing: Tensor, mask: Tensor, ridge: float) -> Tensor:
    """The change of a layer's weights that adds the most of `missing` to its outputs.

    Every row solves its own problem over the weights that its mask keeps: min ‖missing_r - X Δ_r‖² + ρ ‖Δ_r‖², ρ being
    `ridge` times the mean of ‖x‖² per input; with ridge 0 the solution of least norm.

    Args:
        inputs: X, [samples, inputs].
        missing: [samples, rows].
        mask: bool [rows, inputs], True where kept.
        ridge: at least 0.

    Returns:
        [rows, inputs], float64, 0 where the mask is False.
    """
    x, y = inputs.double(), missing.double()
    gram, products = x.T @ x, x.T @ y
    found = torch.zeros(mask.shape, dtype=torch.float64, device=inputs.device)
    patterns, which = torch.unique(mask, dim=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        rows = torch.nonzero(which == index).squeeze(1)
        places = torch.nonzero(pattern).squeeze(1)
        if len(places):
            found[rows[:, None], places] = _solved(gram[places][:, places], products[places][:, rows], ridge).T
    return found


def _solved(gram: Tensor, products: Tensor, ridge: float) -> Tensor:
    size = float(gram.diagonal().mean())
    if size == 0.0:
        return torch.zeros_like(products)
    if ridge == 0.0:
        inverse: Tensor = torch.linalg.pinv(gram, hermitian=True, rtol=1e-12)
        return inverse @ products
    held = gram.clone()
    held.diagonal().add_(ridge * size)
    return torch.cholesky_solve(products, torch.linalg.cholesky(held))


def _outputs(layer: nn.Module, output: Tensor) -> Tensor:
    """A layer's output as [examples, groups, places, outputs of a group]."""
    if isinstance(layer, torch.nn.Linear):
        return output.reshape(output.shape[0], 1, -1, output.shape[-1])
    groups = int(layer.groups)  # type: ignore[arg-type]
    flat = output.reshape(output.shape[0], groups, output.shape[1] // groups, -1)
    return flat.transpose(2, 3)


@contextmanager
def _noted(model: nn.Module, names: Mapping[int, str], note: Note) -> Iterator[None]:
    """Every run of a layer is shown: its name, itself, its input and its output."""
    from prune_search.tasks.layers import PRUNABLE

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        note(names[id(layer._parameters["weight"])], layer, inputs[0], output)

    layers = [m for m in model.modules() if isinstance(m, PRUNABLE) and id(m._parameters["weight"]) in names]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Sampler:
    """Looks at a few places of every example: of each batch, layer and run the same ones, whoever asks."""

    def __init__(self, setting: TransformContext, batches: int, places: int) -> None:
        feed = setting.feed()
        self.inputs = [feed(number)[0] for number in range(batches)]
        self.places = places
        self.words = (setting.seed, "least-squares-reconstruction", *setting.words)

    def chosen(self, value: Tensor, name: str, batch: int) -> Tensor:
        """[examples, groups, places, n] at some places of each example, as [groups, samples, n]."""
        from prune_search.training.randomness import generator

        count, groups, places, size = value.shape
        if places > self.places:
            seed, *words = self.words
            source = generator(int(seed), *words, name, batch)
            index = torch.rand(count, places, generator=source).argsort(dim=1)[:, : self.places].to(value.device)
            value = value.gather(2, index[:, None, :, None].expand(count, groups, self.places, size))
        return value.transpose(0, 1).reshape(groups, -1, size)

    def watch(self, model: nn.Module, names: Mapping[int, str], part: str) -> dict[str, list[Tensor]]:
        """What comes into layers (``inputs``) or out of them (``outputs``), per run."""
        from prune_search.tasks.patches import patches

        found: dict[str, list[Tensor]] = {name: [] for name in names.values()}
        batch = 0

        def note(name: str, layer: nn.Module, inputs: Tensor, output: Tensor) -> None:
            value = patches(layer, inputs) if part == "inputs" else _outputs(layer, output)
            if value is not None:
                found[name].append(self.chosen(value, name, batch))

        with _noted(model, names, note):
            for batch, shown in enumerate(self.inputs):  # noqa: B007 - the hook reads it
                model(shown)
        return found


OPTIONS = {
    "batches": Option(Integer(1, 100_000), 16, "training batches"),
    "places": Option(Integer(1, 1_000_000), 10, "positions sampled from each example's output"),
    "ridge": Option(Number(0.0, 1e3), 1.0e-6, "penalty on the change, times the mean square of an input"),
}


@TRANSFORMS.register(
    "least-squares-reconstruction",
    summary="fits each layer's kept weights, in forward order, to its outputs before pruning",
    source="He, Zhang & Sun 2017, Channel Pruning for Accelerating Very Deep Neural Networks, 1707.06168, section 3.1",
    options=OPTIONS,
    facts=Transform(needs_data=True),
)
def least_squares_reconstruction(setting: TransformContext, *, batches: int, places: int, ridge: float) -> None:
    """min ‖Y - X (w + Δ)ᵀ‖² over the kept weights of each layer: Y from the network as it was, X from the pruned one.

    X is what the layers before, pruned and fitted already, hand on, so that errors do not add up. Biases and
    normalizations stay; batch norms use their running statistics. Layers that miss nothing stay as they are, and so do
    transposed convolutions.
    """

    def change(layer: Layer) -> Tensor:
        return least_squares(layer.inputs, layer.missing, layer.mask, ridge)

    _refit(setting, _Sampler(setting, batches, places), change)


@TRANSFORMS.register(
    "least-squares-scaling",
    summary="ThiNet: scales each layer's kept input channels, in forward order, to fit its outputs before pruning",
    source="Luo, Wu & Lin 2017, ThiNet, 1707.06342, eq. 7",
    options=OPTIONS,
    facts=Transform(needs_data=True),
)
def least_squares_scaling(setting: TransformContext, *, batches: int, places: int, ridge: float) -> None:
    """min Σ (y - Σ_j a_j x_j)² over one factor a_j for each input channel of a layer, x_j being what it adds to y.

    All outputs of a layer share the factors. In all else it is as least-squares-reconstruction, which fits every weight
    by itself. Of a linear layer every input is a channel.
    """
    _refit(setting, _Sampler(setting, batches, places), lambda layer: scaling(layer, ridge))


@dataclass(frozen=True)
class Layer:
    """What is known of one layer, or of one group of a convolution, when it is fitted.

    Attributes:
        inputs: X, what its outputs see in the pruned network, [samples, inputs].
        missing: of its outputs, [samples, rows].
        weights: [rows, inputs], 0 where removed.
        mask: bool [rows, inputs], True where kept.
        kernel: inputs of one channel.
    """

    inputs: Tensor
    missing: Tensor
    weights: Tensor
    mask: Tensor
    kernel: int


def scaling(layer: Layer, ridge: float) -> Tensor:
    """The change of a layer's weights that one factor per input channel makes: w ⊙ (a - 1), [rows, inputs], float64."""
    x, y, weights = layer.inputs.double(), layer.missing.double(), layer.weights.double()
    channels = weights.shape[1] // layer.kernel
    # Σ over samples and rows of x_j x_l, and of y x_j, without what every channel adds to every output.
    products = (weights.T @ weights) * (x.T @ x)
    gram = products.reshape(channels, layer.kernel, channels, layer.kernel).sum((1, 3))
    right = ((x.T @ y) * weights.T).sum(1).reshape(channels, layer.kernel).sum(1)
    there = torch.nonzero(gram.diagonal() > 0).squeeze(1)
    factors = torch.zeros(channels, dtype=torch.float64, device=x.device)
    if len(there):
        factors[there] = _solved(gram[there][:, there], right[there][:, None], ridge)[:, 0]
    return weights * factors.repeat_interleave(layer.kernel)


def _refit(setting: TransformContext, sampler: _Sampler, change: Callable[[Layer], Tensor]) -> None:
    """Change the weights of every layer that misses something of its outputs, in forward order."""
    from prune_search.tasks.network import running_order
    from prune_search.tasks.passes import evaluating, twin_of

    if setting.masks is None:
        return
    model, masks = setting.network.model, setting.masks
    whole = twin_of(model)
    with evaluating(whole):
        outputs = sampler.watch(whole, {id(weight): name for name, weight in _fitted(whole).items()}, "outputs")
    masks.apply(model)
    weights = _fitted(model)
    for name in running_order(model, sampler.inputs[0][:1]):
        if name not in weights or name not in outputs:
            continue
        weight = weights[name]
        with evaluating(model):
            inputs = sampler.watch(model, {id(weight): name}, "inputs")[name]
            now = sampler.watch(model, {id(weight): name}, "outputs")[name]
        missing = torch.cat(outputs[name], dim=1) - torch.cat(now, dim=1)
        if not bool(missing.any()):
            continue
        seen = torch.cat(inputs, dim=1)
        kept = masks[name].to(weight.device).reshape(weight.shape[0], -1)
        flat = weight.detach().reshape(weight.shape[0], -1)
        rows = torch.tensor_split(torch.arange(weight.shape[0]), seen.shape[0])
        kernel = math.prod(weight.shape[2:])
        changes = [change(Layer(seen[g], missing[g], flat[own], kept[own], kernel)) for g, own in enumerate(rows)]
        with torch.no_grad():
            moved = weight.double() + torch.cat(changes).reshape(weight.shape)
            weight.copy_(moved.masked_fill(~masks[name].to(weight.device), 0.0))


def _fitted(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of the layers that can be fitted: linear ones and convolutions, but for transposed ones."""
    from prune_search.tasks.layers import PRUNABLE, holders, prunable_weights

    layers = holders(model)

    def fits(name: str) -> bool:
        return all(isinstance(m, PRUNABLE) and not getattr(m, "transposed", False) for _, m in layers[name])

    return {name: weight for name, weight in prunable_weights(model).items() if fits(name)}
