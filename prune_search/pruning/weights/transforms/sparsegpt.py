"""SparseGPT's update: layer by layer, kept weights make up for removed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prune_search.pruning.mask.criteria.sparsegpt import OPTIONS, SOURCE
from prune_search.recipe.axes import TRANSFORMS
from prune_search.recipe.facts import Transform

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.weights.context import TransformContext
else:
    from prune_search.lazy import torch


@TRANSFORMS.register(
    "sparsegpt",
    summary="moves kept weights, layer by layer and block by block, so that the layer's outputs change least",
    source=SOURCE,
    options=OPTIONS,
    facts=Transform(needs_data=True, takes_moved=True),
)
def sparsegpt(setting: TransformContext, *, damping: float, columns: int) -> None:
    """The sweep of criterion ``sparsegpt`` with a mask that is there already, whoever found it.

    It sees the data of ``mask.score``, block by block, each on what the compensated blocks before it make of them; a
    network without repeated blocks, or with pruned layers outside of them, is one block. Where the same sweep has found
    the mask, on the same weights and data, its weights are taken. Layers that do not multiply their inputs with one
    matrix, or that a batch does not reach by a call, are refused.
    """
    from prune_search.pruning.mask.block_order import in_mode, inputs_of, with_masks
    from prune_search.pruning.mask.column_sweep import Sweep
    from prune_search.pruning.mask.layerwise import Keeping, Layerwise
    from prune_search.pruning.mask.restoring import layers_seeded
    from prune_search.pruning.mask.units import Grouping
    from prune_search.recipe import axes
    from prune_search.tasks.blocks import find_blocks, whole_network
    from prune_search.tasks.layers import prunable_weights
    from prune_search.training.randomness import derive

    masks, model = setting.masks, setting.network.model
    if masks is None:
        return
    parameters = dict(model.named_parameters())
    weights = {name: parameters[name] for name in prunable_weights(model) if name in setting.layers}
    sweep = Sweep(damping, columns)
    if (known := _found_already(setting, weights, sweep)) is not None:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(known[name])
        return
    granularity = Grouping(setting.rule.granularity).granularity
    run_of = granularity.entry(axes.GRANULARITIES).facts.run
    run = 0 if run_of is None else run_of(**granularity.options)

    def prune(weight: Tensor, root: Tensor, keeping: Keeping) -> tuple[Tensor, Tensor]:
        assert keeping.allowed is not None
        mask = keeping.allowed.to(weight.device)
        return mask, sweep.compensated(weight, root, mask, run)

    pruned = {name: masks[name] for name in weights if not bool(masks[name].all())}
    blocks = find_blocks(model)
    if any(blocks.place_of(name) is None for name in pruned):
        blocks = whole_network(model)
    batches = inputs_of(setting.calibration(), "transform sparsegpt")
    # The draws of the search for the mask.
    seed = derive(setting.seed, "score layers", setting.words[-1], 1)
    with in_mode(model, setting.rule.score.mode), layers_seeded(model, seed):
        with_masks(model, blocks, Layerwise("products", prune, sweep.root), pruned, batches)


def _found_already(
    setting: TransformContext, weights: Mapping[str, Tensor], sweep: object
) -> Mapping[str, Tensor] | None:
    """The weights that the criterion left, where they are what would be computed; they are not kept further."""
    from prune_search.pruning.mask.moved_weights import MOVED, weights_digest

    moved = setting.moved.pop(MOVED, None)
    if moved is None or setting.masks is None:
        return None
    same = moved.by == sweep and moved.score == setting.rule.score.written and moved.mask == setting.masks.sha256
    return moved.weights if same and moved.before == weights_digest(weights.items()) else None
