"""Channels shared between layers, found in the graph that torch.export captures, where Torch-Pruning finds fewer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from prune_search.pruning.mask.dependency_groups import Channels, Claim
from prune_search.pruning.structure.analysis import Analysis
from prune_search.pruning.structure.capture import capture
from prune_search.pruning.structure.checks import CHANGES, GraphChecks
from prune_search.pruning.structure.choices import analyze
from prune_search.pruning.structure.sets import Units, channels_in, stays_whole
from prune_search.tasks.layers import prunable_weights

LEFT_OUT = "its outputs go with those of a layer that is left out"


def graph_channels(model: nn.Module, left_out: frozenset[str], example: Any) -> tuple[list[Channels], dict[str, str]]:
    """The sets of units that can be removed as a whole, and of other weights why theirs cannot.

    Args:
        model: the network; left as it was.
        left_out: weights whose outputs are kept.
        example: a batch of inputs [B, …] or `Inputs`.

    Raises:
        UncapturedError: torch.export cannot follow the network.
    """
    prunable = prunable_weights(model)
    analysis = analyze(capture(model, example))
    reasons = stays_whole(analysis, frozenset(prunable))
    found: list[tuple[Channels, Units]] = []
    for channels, units in channels_in(analysis, frozenset(prunable)):
        if left_out.isdisjoint(channels.owners):
            found.append((channels, units))
        else:
            reasons.update(dict.fromkeys(set(channels.owners) - left_out, LEFT_OUT))
    found = exact_together(analysis, found, reasons)
    order = {name: place for place, name in enumerate(prunable)}
    sets = [channels for channels, _ in found if channels.size > 1]
    return under_one_name(sets, order), reasons


def exact_together(
    analysis: Analysis, found: list[tuple[Channels, Units]], reasons: dict[str, str]
) -> list[tuple[Channels, Units]]:
    """The sets that can be cut out together, tried on other weights; of others it is noted that outputs would change.

    Args:
        analysis: of the network.
        found: sets of units.
        reasons: why weights are in no set; is added to.
    """
    checks = GraphChecks(analysis, redrawn=True)
    if not found or checks.is_exact([units for _, units in found]):
        return found
    fine: list[tuple[Channels, Units]] = []
    for one in found:
        if checks.is_exact([*(units for _, units in fine), one[1]]):
            fine.append(one)
        else:
            reasons.update(dict.fromkeys(one[0].owners, CHANGES))
    return fine


def under_one_name(sets: list[Channels], order: dict[str, int]) -> list[Channels]:
    """Sets of units whose first layer is the same become one."""
    by_name: dict[str, Channels] = {}
    for one in sets:
        name = min(one.owners, key=order.__getitem__)
        by_name[name] = _both(by_name[name], one) if name in by_name else one
    return list(by_name.values())


def _both(first: Channels, second: Channels) -> Channels:
    """The units of two sets as one set."""
    claims = [_moved(claim, first.size, 0) for claim in first.claims]
    claims += [_moved(claim, second.size, first.size) for claim in second.claims]
    beside = [_moved(claim, first.size, 0) for claim in first.beside]
    beside += [_moved(claim, second.size, first.size) for claim in second.beside]
    return Channels(first.size + second.size, tuple(claims), tuple(beside))


def _moved(claim: Claim, size: int, by: int) -> Claim:
    at = torch.arange(size) if claim.at is None else claim.at
    return replace(claim, at=at + by)
