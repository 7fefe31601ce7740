"""SparseGPT: removes the weights for which the rest of their row can make up best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.mask.layerwise import Layerwise
    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch

SOURCE = "Frantar & Alistarh 2023, SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot, 2301.00774"
OPTIONS = {
    "damping": Option(Number(0.0, 1e6), 0.01, "added to the diagonal of a layer's Σ x xᵀ, times its mean"),
    "columns": Option(Integer(1, 65_536), 128, "columns that are decided at a time; within n of m, a run"),
}


def _each_column(scoring: Scoring, damping: float, columns: int) -> dict[str, Tensor]:
    """The slow definition for linear and plain 2-d convolution layers: H as the sum over what each output sees."""
    del columns
    found = {}
    names = {id(weight): name for name, weight in scoring.weights.items()}
    seen: dict[str, list[Tensor]] = {name: [] for name in scoring.weights}
    for inputs, _ in scoring.batches():
        value = inputs
        for layer in scoring.model.children():
            name = names.get(id(getattr(layer, "weight", None)))
            if name is not None and isinstance(layer, torch.nn.Conv2d):
                edge = int(layer.padding[0])
                windows = torch.nn.functional.unfold(value, layer.kernel_size, padding=edge)
                seen[name].append(windows.transpose(1, 2).flatten(0, 1).detach().double())
            elif name is not None:
                seen[name].append(value.detach().double())
            value = layer(value)
    for name, parts in seen.items():
        rows = torch.cat(parts)
        h = torch.stack([torch.outer(row, row) for row in rows]).sum(0)
        inverse = torch.linalg.inv(h + damping * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype))
        weight = scoring.weights[name].detach()
        found[name] = (weight.double().flatten(1).square() / inverse.diagonal()).flatten()
    return found


def _layerwise(damping: float, columns: int) -> Layerwise:
    from prune_search.pruning.mask.column_sweep import Sweep
    from prune_search.pruning.mask.layerwise import Layerwise

    sweep = Sweep(damping, columns)
    return Layerwise("products", sweep.pruned, sweep.root, sweep)


@CRITERIA.register(
    "sparsegpt",
    summary="w² / [H⁻¹]_jj, H = Σ x xᵀ of the layer's inputs; block by block kept weights make up for removed ones",
    source=SOURCE,
    options=OPTIONS,
    facts=Criterion(
        reduce="sum",
        compared="layer",
        scales="left",
        needs_data=True,
        oracle=_each_column,
        layerwise=_layerwise,
    ),
)
def sparsegpt(scoring: Scoring, damping: float, columns: int) -> Scores:
    """w_j² / [(H + λ I)⁻¹]_jj of each row, at the masked weights, at least 0, float64, shaped like the weights.

    H = Σ x xᵀ over all that the layer's outputs see, and λ is `damping` times its mean diagonal. With the scope option
    ``order: blocks`` the paper's algorithm takes the place of these scores: the columns of a layer are decided slice
    after slice, and what is removed is made up for in the columns after it. The weights that come of it are those of
    transform ``sparsegpt``.
    """
    del columns
    from prune_search.pruning.mask.column_sweep import damped
    from prune_search.pruning.mask.layerwise import InputStatistics, as_matrix, from_matrix, shown
    from prune_search.tasks.layers import holders

    layers = {name: found[0][1] for name, found in holders(scoring.model).items() if name in scoring.weights}
    for name, layer in layers.items():
        as_matrix(layer, scoring.weights[name])
    statistics = InputStatistics("products", layers)
    with shown(layers.values(), statistics.add), torch.no_grad():
        for inputs, _ in scoring.batches():
            scoring.model(inputs)
    scores = {}
    for products, names in statistics.taken():
        inverse = torch.cholesky_inverse(damped(products.double(), damping)).diagonal()
        for name in names:
            weight = scoring.weights[name].detach()
            matrix = as_matrix(layers[name], weight).double().square() / inverse
            scores[name] = from_matrix(layers[name], matrix, weight.shape)
    return {name: scores[name] for name in scoring.weights}
