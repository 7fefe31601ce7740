"""Prunes your own network in place, block by block, in little more memory than its weights take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from typing import Any

import torch
from torch import nn

from prune_search.library import arguments
from prune_search.library.arguments import AnyBatches, Given, share_of
from prune_search.library.calls import told_in_one_line
from prune_search.library.task_batches import takes_task_batches
from prune_search.pruning.mask.block_order import BLOCKS, by_blocks, in_mode, inputs_of, layerwise_of, seeded
from prune_search.pruning.mask.finder import Finder
from prune_search.pruning.mask.finder import find_mask as find_by_rule
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.recipe import axes
from prune_search.recipe.argument_types import of_type
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.tasks.layers import check_network


def device_of(given: object) -> torch.device | None:
    """The device that an argument names; None: none.

    Raises:
        UserError: it names no device.
    """
    if given is None or isinstance(given, torch.device):
        return given
    of_type("device", given, (str, int), "a device, such as cuda:1, or None")
    try:
        return torch.device(given)  # type: ignore[call-overload,no-any-return]
    except (RuntimeError, TypeError) as error:
        raise UserError([Problem("device", f"{shown(given)} is no device of torch")]) from error


@told_in_one_line
@takes_task_batches
def prune_blocks(
    model: nn.Module,
    criterion: Given = "wanda",
    sparsity: float | Decimal | None = None,
    scope: Given = "uniform",
    granularity: Given = "weight",
    batches: AnyBatches | None = None,
    *,
    parameters: Collection[str] | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    **options: Any,
) -> MaskSet:
    """Prune the repeated blocks of a network in place, each on the outputs of the pruned blocks before it.

    The network is in evaluation mode during the call. Layers outside of the blocks are not pruned, and the receipt says
    which blocks were found. Memory holds the network, the inputs of one block for all batches, and the statistics of
    that block.

    Args:
        model: the network; its weights are changed.
        criterion: ``wanda``, ``sparsegpt`` (which moves kept weights too), or one that needs no data (``magnitude``,
            ``random``).
        sparsity: share of the blocks' units to remove, 0 to 1; None if granularity or scope determines it.
        scope: ``uniform``, ``owl`` or ``{name: ramp, first: …, last: …}``.
        granularity: ``weight`` or n of m, such as ``2:4``.
        batches: (inputs [B, …], labels [B]) for calibration; labels are not looked at. Small batches take less memory.
        parameters: weights or layers to prune; None: all of the blocks.
        device: device to which each block is moved while it is pruned; None: blocks stay where they are.
        seed: of criteria that draw random numbers.
        options: options of the criterion.

    Returns:
        The mask, with its receipt.

    Raises:
        UserError: an argument is invalid, or the network cannot be run block by block.
        ScoreError: a score is not a number, or a batch does not reach a layer.

    Example:
        >>> prune_blocks(model, "sparsegpt", 0.5, batches=[(tokens, tokens)])
    """
    check_network(model)
    named = arguments.value(axes.CRITERIA, criterion, "criterion", options)
    known = arguments.value(axes.SCOPES, scope, "scope", {"order": BLOCKS})
    block = arguments.score_block("one-shot", "cross-entropy", "eval", "none")
    rule = arguments.only(arguments.rule_of(named, known.written, granularity, block), model, parameters)
    data = arguments.evidence_of(model, batches, None, seed)
    arguments.needs_batches(named, data)
    data = replace(data, device=device_of(device))
    share = share_of(model, rule, sparsity, data)
    if layerwise_of(rule) is None:
        mask = find_by_rule(model, rule, share, None, data)
        mask.apply(model)
        return arguments.told_of(mask)
    finder = Finder(model, rule, data, None)
    with in_mode(model, "eval"), seeded(finder):
        mask = by_blocks(finder, share, inputs_of(data.batches(1), named.name), None)
    return arguments.told_of(mask)
