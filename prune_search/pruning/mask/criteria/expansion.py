"""Criteria from a Taylor expansion: the change in loss if a weight or a group were removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Number, Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import torch

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch

EACH = Option(Word(("example", "batch")), "example", "square the gradients of each example, or of each batch")


def _each_change(scoring: Scoring, order: str, group: str, each: str) -> dict[str, list[float]]:
    """The slow definition of taylor: derivatives by differences."""
    from prune_search.pruning.mask.finite_differences import each_derivative, in_doubles, mean_loss

    squares = _each_square(scoring, each) if order == "second" else None
    model, batches = in_doubles(scoring)
    slopes = each_derivative(scoring, lambda: mean_loss(scoring, model, batches))
    found = {}
    for name, slope in slopes.items():
        weights = scoring.weights[name].flatten().tolist()
        half = [h * w * w / 2 for h, w in zip(squares[name], weights, strict=True)] if squares else [0.0] * len(weights)
        found[name] = [float(g) * w - add for g, w, add in zip(slope, weights, half, strict=True)]
    return found


def _each_square(scoring: Scoring, each: str) -> dict[str, list[float]]:
    """The Fisher diagonal, by differences of the loss of every example or batch."""
    from prune_search.pruning.mask.finite_differences import each_derivative, each_loss, in_doubles

    model, batches = in_doubles(scoring)

    def losses() -> torch.Tensor:
        if each == "example":
            return each_loss(scoring, model, batches)
        return torch.stack([scoring.loss(model(inputs), labels) for inputs, labels in batches])

    slopes = each_derivative(scoring, losses)
    return {name: [float(slope.square().mean()) for slope in found] for name, found in slopes.items()}


def _each_obd(scoring: Scoring, each: str) -> dict[str, list[float]]:
    """The slow definition of fisher-obd."""
    squares = _each_square(scoring, each)
    return {
        name: [h * w * w / 2 for h, w in zip(found, scoring.weights[name].flatten().tolist(), strict=True)]
        for name, found in squares.items()
    }


def fisher_diagonal(scoring: Scoring, each: str) -> Scores:
    """h = E[g²] of the empirical Fisher matrix, shaped like the weights, at the masked weights.

    Args:
        scoring: what is scored.
        each: g is the gradient of every ``example``'s loss, or of every ``batch``'s.
    """
    from prune_search.pruning.mask.scoring import sample_gradients

    sums = [torch.zeros_like(weight) for weight in scoring.weights.values()]
    seen = torch.zeros(1, dtype=torch.float64, device=sums[0].device if sums else None)
    for gradients, part in sample_gradients(scoring, each):
        torch._foreach_addcmul_(sums, gradients, gradients, value=part)
        seen += part
    scoring.add_up([*sums, seen])
    count = float(seen)
    return {name: total / count for name, total in zip(scoring.weights, sums, strict=True)}


GROUP = Option(
    Word(("square-sum", "sum-square", "abs-sum", "sum-abs")),
    "square-sum",
    "over a group's weights: (Σ …)² or Σ (…)², the mean over the batches as in the released code; or of the mean "
    "gradient |Σ …| or Σ |…|",
    in_0_1="abs-sum",
)


@CRITERIA.register(
    "taylor",
    summary="Taylor expansion of the change in loss when a group is removed: (Σ w·g)², or (Σ w·g - h·w²/2)²",
    source="Molchanov et al. 2019, 1906.10771, eq. 7-8, squared in every batch as in NVlabs/Taylor_pruning; "
    "of the mean gradient: Molchanov et al. 2017, 1611.06440, eq. 8",
    options={
        "order": Option(
            Word(("first", "second")),
            "first",
            "order of the expansion; second uses h, the diagonal of the Fisher matrix",
        ),
        "group": GROUP,
        "each": EACH,
    },
    facts=Criterion(
        reduce=lambda group, **options: group,
        each_batch=lambda group, **options: group in ("square-sum", "sum-square"),
        needs_data=True,
        oracle=_each_change,
    ),
)
def taylor(scoring: Scoring, order: str, group: str, each: str) -> Scores:
    """w·g, or w·g - h·w²/2, at the masked weights, g the mean over the batches; signed, shaped like the weights.

    Minus these numbers is the change of the loss; the score is its size. ``group`` is the reduction over a group. Of
    the squares, this is called for every batch by itself, and the mean of the groups' squares is the score, as in
    NVlabs/Taylor_pruning: ``square-sum`` is its score of gates and batch norms ("Taylor FO"), ``sum-square`` its method
    0, "Taylor_weight".
    """
    from prune_search.pruning.mask.scoring import gradients

    found = gradients(scoring)
    first = {name: weight.detach() * found[name] for name, weight in scoring.weights.items()}
    if order == "first":
        return first
    diagonal = fisher_diagonal(scoring, each)
    return {
        name: first[name] - diagonal[name] * weight.detach().square() / 2 for name, weight in scoring.weights.items()
    }


@CRITERIA.register(
    "fisher-obd",
    summary="optimal brain damage with the diagonal of the Fisher matrix: h·w²/2",
    source="LeCun, Denker & Solla 1989, Optimal Brain Damage; h = E[g²] as in Theis et al. 2018, 1801.05787",
    options={"each": EACH},
    facts=Criterion(reduce="sum", needs_data=True, oracle=_each_obd),
)
def fisher_obd(scoring: Scoring, each: str) -> Scores:
    """h·w²/2 at the masked weights, at least 0, shaped like the weights; a group sums them."""
    diagonal = fisher_diagonal(scoring, each)
    return {name: diagonal[name] * weight.detach().square() / 2 for name, weight in scoring.weights.items()}


def _each_movement(scoring: Scoring, rate: float) -> dict[str, list[float]]:
    """The slow definition of movement: torch's own optimizer, in float64, one number at a time."""
    from prune_search.pruning.mask.finite_differences import in_doubles

    model, batches = in_doubles(scoring)
    gone = {name: (weight == 0) & (scoring.dense[name] != 0) for name, weight in scoring.weights.items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    found = {name: [0.0] * weight.numel() for name, weight in scoring.weights.items()}
    for inputs, labels in batches:
        optimizer.zero_grad()
        scoring.loss(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        for name, weight in scoring.weights.items():
            slopes = weight.grad.flatten().tolist() if weight.grad is not None else [0.0] * weight.numel()
            pairs = zip(weight.flatten().tolist(), slopes, strict=True)
            found[name] = [s - w * g for s, (w, g) in zip(found[name], pairs, strict=True)]
        optimizer.step()
        for name, weight in scoring.weights.items():
            weight.data[gone[name]] = 0.0
    return found


def _as_many_as_batches(score: Mapping[str, Any], rate: float) -> int:
    """Updates that movement trains in one scoring pass."""
    return int(score.get("batches", 1)) * int(score["iterations"]) if rate else 0


@CRITERIA.register(
    "movement",
    summary="-Σ w·g over training steps: keeps weights that move away from zero",
    source="Sanh, Wolf & Rush 2020, Movement Pruning, 2005.07683, eq. 4",
    options={
        "rate": Option(
            Number(0.0, 1e3), 0.01, "learning rate of the plain gradient step after each batch; 0: weights do not move"
        )
    },
    facts=Criterion(reduce="sum", needs_data=True, steps=_as_many_as_batches, oracle=_each_movement),
)
def movement(scoring: Scoring, rate: float) -> Scores:
    """-Σ_t w_t ⊙ g_t, signed, shaped like the weights; one step of plain gradient descent per batch.

    All parameters move; removed weights stay zero. Afterwards the weights are put back; the steps count as trained.
    """
    trained = [parameter for parameter in scoring.model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    gone = {name: (weight == 0) & (scoring.dense[name] != 0) for name, weight in scoring.weights.items()}
    moved = {name: torch.zeros_like(weight) for name, weight in scoring.weights.items()}
    of = {id(weight): name for name, weight in scoring.weights.items()}
    try:
        for inputs, labels, part in scoring.shares():
            with scoring.together():
                loss = scoring.loss(scoring.model(inputs), labels) * part
                slopes = torch.autograd.grad(loss, trained, allow_unused=True)
            wanted = [torch.zeros_like(p) if found is None else found for p, found in zip(trained, slopes, strict=True)]
            scoring.add_up(wanted)
            with torch.no_grad():
                for parameter, slope in zip(trained, wanted, strict=True):
                    name = of.get(id(parameter))
                    if name is not None:
                        moved[name] -= parameter * slope
                        slope = slope.masked_fill(gone[name], 0.0)
                    parameter.sub_(rate * slope)
    finally:
        with torch.no_grad():
            for parameter, old in zip(trained, before, strict=True):
                parameter.copy_(old)
    return moved
