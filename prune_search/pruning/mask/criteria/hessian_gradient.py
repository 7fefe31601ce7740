"""GraSP: keeps the weights whose removal would weaken the gradient flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Flag, Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.mask.scoring import Batches, Scores, Scoring
else:
    from prune_search.lazy import torch


def _parts(batches: Batches, halves: bool) -> Batches:
    if not halves:
        return batches
    from prune_search.tasks.structures import examples_in, some_examples

    cut = [(inputs, labels, examples_in(inputs) // 2) for inputs, labels in batches]
    wanted = [(x, y, part) for x, y, half in cut for part in (slice(half), slice(half, None))]
    parts = [(some_examples(x, part), some_examples(y, part)) for x, y, part in wanted]
    return [(inputs, labels) for inputs, labels in parts if examples_in(inputs)]


def _differences(scoring: Scoring, temperature: float, halves: bool) -> dict[str, list[float]]:
    """The slow definition: Hg as the change of the gradient along g, in float64, with first derivatives only."""
    from prune_search.pruning.mask.finite_differences import in_doubles

    model, whole = in_doubles(scoring)
    batches = _parts(whole, halves)
    weights = list(scoring.weights.values())
    kept = [_there(weight.detach(), scoring.dense[name]) for name, weight in scoring.weights.items()]

    def gradient() -> list[Tensor]:
        losses = [scoring.loss(model(inputs) / temperature, labels) for inputs, labels in batches]
        return list(torch.autograd.grad(torch.stack(losses).sum(), weights))

    direction = [g * there for g, there in zip(gradient(), kept, strict=True)]
    # As small that no unit changes its side, for most: the loss over the temperature is flat.
    length = max(float(d.abs().max()) for d in direction) or 1.0
    epsilon = 1e-7 / length
    ends = []
    for step in (epsilon, -2 * epsilon, epsilon):
        with torch.no_grad():
            for weight, d in zip(weights, direction, strict=True):
                weight.add_(step * d)
        ends.append(gradient())
    products = [(above - below) / (2 * epsilon) for above, below in zip(ends[0], ends[1], strict=True)]
    return {
        name: (weight.detach() * product).flatten().tolist()
        for (name, weight), product in zip(scoring.weights.items(), products, strict=True)
    }


def _there(weight: Tensor, dense: Tensor) -> Tensor:
    """Where a weight has not been removed."""
    return (weight != 0) | (dense == 0)


@CRITERIA.register(
    "grasp",
    summary="gradient signal preservation w · Hg: the signed contribution of a weight to the gradient norm",
    source="Wang, Zhang & Grosse 2020, Picking Winning Tickets Before Training, 2002.07376, eq. 8",
    options={
        "temperature": Option(Number(0.0, 1e6, above=True), 200.0, "temperature that divides the logits"),
        "halves": Option(Flag(), False, "split every batch in two, as in the published code", later=True),
    },
    facts=Criterion(reduce="sum", needs_data=True, oracle=_differences),
)
def grasp(scoring: Scoring, temperature: float, halves: bool = False) -> Scores:
    """w ⊙ Hg at the masked weights, with g = Σ_b g_b and H = Σ_b H_b over the batches, signed, shaped like the weights.

    The paper's score is S = -w ⊙ Hg, and it removes the largest S; so the largest w ⊙ Hg are kept here. Weights that an
    earlier iteration removed are no part of g. The released code cuts its data in two halves, which matters where batch
    statistics are used: `halves`. Only convolution and linear weights take part, biases and batch norms do not.
    """
    from prune_search.tasks.outputs import over

    weights = list(scoring.weights.values())
    batches = _parts(scoring.batches(), halves)

    def gradients(inputs: Any, labels: Any, part: float, graph: bool) -> list[Tensor]:
        loss = scoring.loss(over(scoring.model(inputs), temperature), labels) * part
        found = torch.autograd.grad(loss, weights, create_graph=graph, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]

    stopped = [torch.zeros_like(weight) for weight in weights]
    with scoring.together():
        for inputs, labels, part in scoring.shares(batches):
            torch._foreach_add_(stopped, gradients(inputs, labels, part, False))
    scoring.add_up(stopped)
    stopped = [
        g * _there(weight.detach(), scoring.dense[name])
        for g, (name, weight) in zip(stopped, scoring.weights.items(), strict=True)
    ]
    products = [torch.zeros_like(weight) for weight in weights]
    with scoring.together(twice=True):
        for inputs, labels, part in scoring.shares(batches):
            found = gradients(inputs, labels, part, True)
            product = torch.stack([(s * g).sum() for s, g in zip(stopped, found, strict=True)]).sum()
            if not product.requires_grad:
                continue
            second = torch.autograd.grad(product, weights, allow_unused=True)
            for total, found_part in zip(products, second, strict=True):
                if found_part is not None:
                    total += found_part
    scoring.add_up(products)
    return {
        name: weight.detach() * product
        for (name, weight), product in zip(scoring.weights.items(), products, strict=True)
    }
