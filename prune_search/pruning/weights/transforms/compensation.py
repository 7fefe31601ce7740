"""Optimal brain surgeon's update: kept weights compensate for removed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.pruning.mask.criteria.expansion import EACH
from prune_search.recipe.axes import TRANSFORMS
from prune_search.recipe.facts import Transform
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.weights.context import TransformContext
else:
    from prune_search.lazy import torch


def compensated(weight: Tensor, mask: Tensor, inverse: Tensor) -> Tensor:
    """The weights of least ½ δᵀHδ among those with the mask's zeros.

    δ = -H⁻¹ E (Eᵀ H⁻¹ E)⁻¹ Eᵀ w, where E picks the removed weights. For a single one, q, it is Hassibi & Stork's
    -w_q / [H⁻¹]_qq · H⁻¹ e_q, and the loss rises by w_q² / (2 [H⁻¹]_qq).

    Args:
        weight: of a layer.
        mask: bool, shaped like it, True where kept.
        inverse: H⁻¹ in blocks of weights that follow each other in row-major order, [blocks, size, size], symmetric
            and positive definite; the last block may be longer than what is left.

    Returns:
        Shaped like the weight, float64, exactly 0 where removed.
    """
    blocks, size, _ = inverse.shape
    missing = blocks * size - weight.numel()
    flat = torch.nn.functional.pad(weight.detach().double().flatten(), (0, missing)).reshape(blocks, size, 1)
    gone = torch.nn.functional.pad((~mask).to(flat).flatten(), (0, missing)).reshape(blocks, size, 1)
    # The removed weights' part of H⁻¹, and the identity on the others, which leaves their unknowns 0.
    among = inverse * gone * gone.transpose(1, 2)
    among.diagonal(dim1=1, dim2=2).add_(1 - gone.squeeze(2))
    forces = torch.cholesky_solve(flat * gone, torch.linalg.cholesky(among))
    found = (flat - inverse @ forces).flatten()[: weight.numel()].reshape(weight.shape)
    return found.masked_fill(~mask, 0.0)


@TRANSFORMS.register(
    "obs-compensation",
    summary="moves the kept weights of each block to where the second-order loss increases least",
    source="Hassibi & Stork 1992, Second Order Derivatives for Network Pruning; sets: Kurtic et al. 2022, 2203.07259",
    options={
        "block": Option(Integer(1, 65_536), 256, "number of weights of a layer treated together"),
        "damping": Option(Number(0.0, 1e6, above=True), 1.0e-4, "added to the diagonal of H"),
        "each": EACH,
        "batches": Option(Integer(1, 1_000_000), 16, "training batches"),
    },
    facts=Transform(needs_data=True),
)
def obs_compensation(setting: TransformContext, *, block: int, damping: float, each: str, batches: int) -> None:
    """H is the damped empirical Fisher matrix at w(k2) in blocks, as criterion `obs` has it.

    All removed weights of a block go at once: with a single one per block it is the optimal brain surgeon's own step.
    """
    from prune_search.pruning.mask.criteria.curvature import inverse_blocks
    from prune_search.pruning.mask.restoring import layers_seeded, left_as_it_was
    from prune_search.pruning.mask.scoring import Scoring
    from prune_search.tasks.network import prunable_weights
    from prune_search.training.randomness import derive

    if setting.masks is None:
        return
    model, feed = setting.network.model, setting.feed()
    weights = {name: weight for name, weight in prunable_weights(model).items() if name in setting.layers}
    shown = [feed(number) for number in range(batches)]
    scoring = Scoring(
        model=model,
        weights=weights,
        dense={name: weight.detach() for name, weight in weights.items()},
        batches=lambda: shown,
        loss=setting.rule.loss(),
        seed=setting.seed,
        words=setting.words,
    )
    seed = derive(setting.seed, "transform layers", *setting.words)
    with left_as_it_was(model, setting.rule.score.mode), layers_seeded(model, seed):
        inverses = inverse_blocks(scoring, block, damping, each)
    with torch.no_grad():
        for name, weight in weights.items():
            mask = setting.masks[name].to(weight.device)
            if not bool(mask.all()):
                weight.copy_(compensated(weight, mask, inverses[name]))
