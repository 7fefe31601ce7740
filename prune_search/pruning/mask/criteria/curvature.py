"""Criteria from curvature: blocks of the inverse Fisher matrix (OBS), and the trace of the Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.pruning.mask.criteria.expansion import EACH
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.mask.scoring import Scores, Scoring
else:
    from prune_search.lazy import torch

CHUNK = 2**25


def _each_inverse(scoring: Scoring, block: int, damping: float, each: str) -> dict[str, list[float]]:
    """The slow definition of obs: derivatives by differences, every block inverted by itself."""
    from prune_search.pruning.mask.finite_differences import each_derivative, each_loss, in_doubles

    model, batches = in_doubles(scoring)

    def losses() -> Tensor:
        if each == "example":
            return each_loss(scoring, model, batches)
        return torch.stack([scoring.loss(model(inputs), labels) for inputs, labels in batches])

    found: dict[str, list[float]] = {}
    for name, slopes in each_derivative(scoring, losses).items():
        rows = torch.stack(slopes)
        weights = scoring.weights[name].flatten().tolist()
        found[name] = []
        for first in range(0, len(rows), block):
            part = rows[first : first + block]
            matrix = part @ part.T / part.shape[1] + damping * torch.eye(len(part), dtype=part.dtype)
            inverse = torch.linalg.inv(matrix).diagonal().tolist()
            found[name] += [weights[first + i] ** 2 / (2 * value) for i, value in enumerate(inverse)]
    return found


def inverse_blocks(scoring: Scoring, block: int, damping: float, each: str) -> dict[str, Tensor]:
    """Blocks of (F + λI)⁻¹, F = E[g gᵀ] the empirical Fisher matrix at the masked weights.

    A block is `block` weights of a layer that follow each other in row-major order; the last one is filled up with
    weights of no gradient. Memory: 8 · block bytes per weight.

    Args:
        scoring: what is scored.
        block: weights of a block.
        damping: λ, above 0.
        each: g is the gradient of every ``example``'s loss, or of every ``batch``'s.

    Returns:
        Per layer, [blocks, block, block], float64.
    """
    from prune_search.pruning.mask.scoring import sample_gradients

    sizes = {name: min(block, weight.numel()) for name, weight in scoring.weights.items()}
    sums: dict[str, Tensor] = {}
    for name, weight in scoring.weights.items():
        shape = (-(-weight.numel() // sizes[name]), sizes[name], sizes[name])
        sums[name] = torch.zeros(shape, dtype=torch.float64, device=weight.device)
    most = max(1, CHUNK // sum(weight.numel() for weight in scoring.weights.values()))
    waiting: list[list[Tensor]] = []
    seen = torch.zeros(1, dtype=torch.float64, device=next(iter(sums.values())).device)

    def add() -> None:
        for index, total in enumerate(sums.values()):
            rows = torch.stack([gradients[index].flatten() for gradients in waiting]).double()
            rows = torch.nn.functional.pad(rows, (0, total.shape[0] * total.shape[1] - rows.shape[1]))
            parts = rows.reshape(len(waiting), total.shape[0], total.shape[1]).transpose(0, 1)
            total.baddbmm_(parts.transpose(1, 2), parts)
        waiting.clear()

    for gradients, part in sample_gradients(scoring, each):
        # What every worker computes for itself counts for its part of it.
        waiting.append(gradients if part == 1.0 else [gradient * part**0.5 for gradient in gradients])
        seen += part
        if len(waiting) == most:
            add()
    if waiting:
        add()
    scoring.add_up([*sums.values(), seen])
    for total in sums.values():
        total /= float(seen)
        total.diagonal(dim1=1, dim2=2).add_(damping)
    return {name: torch.cholesky_inverse(torch.linalg.cholesky(total)) for name, total in sums.items()}


@CRITERIA.register(
    "obs",
    summary="optimal brain surgeon: w² / 2[H⁻¹]_qq, H in blocks of the empirical Fisher matrix",
    source="Hassibi & Stork 1992, Second Order Derivatives for Network Pruning; Singh & Alistarh 2020, 2004.14340",
    options={
        "block": Option(Integer(1, 65_536), 256, "number of weights of a layer treated together"),
        "damping": Option(Number(0.0, 1e6, above=True), 1.0e-4, "added to the diagonal of H"),
        "each": EACH,
    },
    facts=Criterion(reduce="sum", needs_data=True, oracle=_each_inverse),
)
def obs(scoring: Scoring, block: int, damping: float, each: str) -> Scores:
    """w_q² / (2 [H⁻¹]_qq) at the masked weights, at least 0, shaped like the weights; a group sums them."""
    inverses = inverse_blocks(scoring, block, damping, each)
    scores = {}
    for name, weight in scoring.weights.items():
        diagonal = inverses[name].diagonal(dim1=1, dim2=2).flatten()[: weight.numel()].reshape(weight.shape)
        scores[name] = weight.detach().double().square() / (2 * diagonal)
    return scores


def _signs(scoring: Scoring, name: str, draw: int) -> Tensor:
    """The draw-th vector of Hutchinson's estimate for a layer: +1 or -1, a function of seed, place and number."""
    from prune_search.training.randomness import generator

    weight = scoring.weights[name]
    source = generator(scoring.seed, "criterion", "hessian-trace", *scoring.words, name, draw)
    signs = torch.randint(2, weight.shape, generator=source)
    return (2 * signs - 1).to(device=weight.device, dtype=weight.dtype)


def _over_units(scoring: Scoring, name: str, diagonal: Tensor) -> Tensor:
    """tr(H_g) / (2 p) · ‖w_g‖² of every unit, in equal parts on its weights."""
    weight = scoring.weights[name].detach()
    curvature, squares = scoring.split(diagonal), scoring.split(weight.square())
    size = curvature.shape[1]
    units = curvature.sum(1) * squares.sum(1) / (2 * size)
    places = scoring.split(torch.arange(weight.numel(), device=weight.device).reshape(weight.shape))
    found = torch.empty(weight.numel(), dtype=units.dtype, device=weight.device)
    found[places.reshape(-1)] = (units / size).repeat_interleave(size)
    return found.reshape(weight.shape)


def _trace_by_differences(scoring: Scoring, draws: int) -> dict[str, list[float]]:
    """The slow definition of hessian-trace: Hz as the change of the gradient along z, for the same z."""
    from prune_search.pruning.mask.finite_differences import in_doubles, mean_loss

    model, batches = in_doubles(scoring)
    weights = scoring.weights
    epsilon = 1e-8
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for draw in range(draws):
        signs = {name: _signs(scoring, name, draw) for name in weights}
        ends = []
        for step in (epsilon, -2 * epsilon, epsilon):
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.add_(step * signs[name])
            ends.append(torch.autograd.grad(mean_loss(scoring, model, batches), list(weights.values())))
        for name, above, below in zip(weights, ends[0], ends[1], strict=True):
            sums[name] += signs[name] * (above - below) / (2 * epsilon) / draws
    return {
        name: [h * w * w / 2 for h, w in zip(total.flatten().tolist(), weights[name].flatten().tolist(), strict=True)]
        for name, total in sums.items()
    }


@CRITERIA.register(
    "hessian-trace",
    summary="tr(H_g) / 2p · ‖w_g‖², with the trace of the Hessian's block estimated by Hutchinson's method",
    source="Yu et al. 2022, Hessian-Aware Pruning and Optimal Neural Implant, 2101.08940, eq. 7",
    options={"draws": Option(Integer(1, 100_000), 16, "number of random sign vectors")},
    facts=Criterion(reduce="sum", needs_data=True, oracle=_trace_by_differences),
)
def hessian_trace(scoring: Scoring, draws: int) -> Scores:
    """The group's score in equal parts on its weights, signed, at the masked weights, shaped like the weights.

    The trace of a group's block of H, the Hessian of the mean loss over the batches, is Σ z_i (Hz)_i over the group,
    averaged over draws of z, whose numbers are ±1 (Hutchinson 1989). p is the number of the group's weights.
    """
    weights = list(scoring.weights.values())
    batches = scoring.batches()
    signs = [[_signs(scoring, name, draw) for name in scoring.weights] for draw in range(draws)]
    sums = [torch.zeros_like(weight) for weight in weights]
    with scoring.together(twice=True):
        for inputs, labels, share in scoring.shares(batches):
            loss = scoring.loss(scoring.model(inputs), labels) * share
            slopes = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
            used = [index for index, slope in enumerate(slopes) if slope is not None and slope.requires_grad]
            for vector in signs:
                if not used:
                    break
                product = torch.stack([(slopes[index] * vector[index]).sum() for index in used]).sum()
                parts = torch.autograd.grad(product, weights, retain_graph=True, allow_unused=True)
                for total, part, z in zip(sums, parts, vector, strict=True):
                    if part is not None:
                        total.add_(z * part)
    scoring.add_up(sums)
    count = draws * len(batches)
    return {name: _over_units(scoring, name, total / count) for name, total in zip(scoring.weights, sums, strict=True)}
