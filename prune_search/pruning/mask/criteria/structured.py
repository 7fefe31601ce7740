"""Criteria for units of transformers: the activations of a unit, and how much a block changes its input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch


def _always(**options: object) -> bool:
    return True


def _each_activation(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition: of each weight √Σx², by the definition of Wanda on weights that are all 1."""
    from prune_search.pruning.mask.criteria.activations import each_input

    ones = {name: torch.ones_like(weight) for name, weight in scoring.dense.items()}
    norms = each_input(replace(scoring, dense=ones), "row")
    found = {}
    for name, weight in scoring.dense.items():
        rows = scoring.split(torch.tensor(norms[name]).reshape(weight.shape)).tolist()
        found[name] = [math.fsum(row) / len(row) for row in rows]
    return found


@CRITERIA.register(
    "activation",
    summary="L2 norm of a unit's activations, as the inputs of the layers that read it; the mean over batches",
    source="Muralidharan et al. 2024, Minitron, 2407.14679, section 3.1",
    facts=Criterion(
        reduce="readers",
        scales="left",
        needs_data=True,
        each_batch=_always,
        granularities=("channel", "head", "neuron", "width"),
        oracle=_each_activation,
    ),
)
def activation(scoring: Scoring) -> Scores:
    """√Σx² over the inputs x that a weight is multiplied with, at least 0, float64, shaped like the weights.

    The sum is over the examples and places of a batch. A unit's score is the mean over the weights that read it: of a
    neuron what the layer behind it is given, of a head its part of what the mixing layer is given, of a dimension of
    the stream what all normalized readers of it are given. So no weight counts, but what comes out of the unit.
    """
    from prune_search.pruning.mask.criteria.activations import input_squares

    return {name: squares.sqrt() for name, squares in input_squares(scoring).items()}


def _changes(scoring: Scoring, blocks: list[tuple[str, nn.Module]]) -> dict[str, tuple[float, int]]:
    """Per block, the sum over the batches' tokens of the cosine between what it is given and makes, and their count."""
    from prune_search.tasks.passes import eager
    from prune_search.tasks.structures import listed_tensors

    sums: dict[str, tuple[float, int]] = {}

    def noting(name: str) -> Any:
        def note(_block: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given, made = [*listed_tensors(args), *listed_tensors(kwargs)][:1], listed_tensors(output)[:1]
            if given and made and given[0].shape == made[0].shape:
                cosines = _cosines(given[0], made[0])
                before, count = sums.get(name, (0.0, 0))
                sums[name] = before + float(cosines.sum()), count + cosines.numel()

        return note

    handles = [block.register_forward_hook(noting(name), with_kwargs=True) for name, block in blocks]
    try:
        with eager(), torch.no_grad():
            for inputs, _ in scoring.batches():
                scoring.model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return sums


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of every place: along the last dimension, of pictures [B, C, H, W] along the channels."""
    dim = 1 if first.dim() > 3 else -1
    return torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=dim)


def _one_token_at_a_time(scoring: Scoring) -> dict[str, list[float]]:
    """The slow definition: blocks are children of a Sequential that run one after the other."""
    from prune_search.pruning.mask.network_units import block_lists

    blocks = dict(block_lists(scoring.model))
    found = {name: [0.0] for name in scoring.weights}
    cosines: dict[str, list[float]] = {name: [] for name in blocks}
    for inputs, _ in scoring.batches():
        value = inputs
        for name, child in scoring.model.named_children():
            steps = child.named_children() if isinstance(child, torch.nn.Sequential) else [("", child)]
            for key, step in steps:
                made, full = step(value), f"{name}.{key}"
                if full in blocks:
                    for one, other in zip(value.tolist(), made.tolist(), strict=True):
                        dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
                        sizes = math.sqrt(math.fsum(a * a for a in one)) * math.sqrt(math.fsum(b * b for b in other))
                        cosines[full].append(dot / max(sizes, 1e-8))
                value = made
    for name in found:
        for block, some in cosines.items():
            if name.startswith(f"{block}."):
                found[name] = [1 - math.fsum(some) / len(some)]
    return found


@CRITERIA.register(
    "block-influence",
    summary="1 - the cosine between a block's input and its output: how much the block changes",
    source="Men et al. 2024, ShortGPT, 2403.03853, eq. 1",
    facts=Criterion(
        reduce="mean", scales="left", needs_data=True, granularities=("depth",), oracle=_one_token_at_a_time
    ),
)
def block_influence(scoring: Scoring) -> Scores:
    """1 - cos(input, output) of the block that a weight is in, the mean over all tokens, shaped like the weights.

    From 0, for a block that passes on what it is given, to 2; 0 for weights outside of blocks
    (`network_units.looked_at`), which take no part.
    """
    from prune_search.pruning.mask.network_units import looked_at

    # A block within a stage comes behind the stage, so that its own change is what its weights have.
    blocks = list(looked_at(scoring.model, scoring.batches()[0][0])[0].items())
    sums = _changes(scoring, blocks)
    names = {id(weight): name for name, weight in scoring.weights.items()}
    scores = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in scoring.weights.items()}
    for name, block in blocks:
        total, count = sums.get(name, (0.0, 0))
        for parameter in block.parameters() if count else ():
            if id(parameter) in names:
                scores[names[id(parameter)]].fill_(1.0 - total / count)
    return scores
