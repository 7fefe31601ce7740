"""Networks without some of their units: they do what networks do in which those are 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from structured_networks import NETWORKS, made

from prune_search.pruning.structure.capture import UncapturedError, capture
from prune_search.pruning.structure.checks import GraphChecks
from prune_search.pruning.structure.choices import analyze
from prune_search.pruning.structure.cut import cut
from prune_search.pruning.structure.sets import stays_whole, units_of
from prune_search.tasks.layers import prunable_weights

FAST = ("two-inputs", "shuffled")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in NETWORKS]
)
def test_half_of_the_units_can_be_cut_out_exactly(name: str) -> None:
    model, inputs = made(name)
    analysis = analyze(capture(model, inputs))
    assert not analysis.notes.unknown
    sets = units_of(analysis)
    assert GraphChecks(analysis, redrawn=True).is_exact(sets)
    removed = np.concatenate([units.classes[: len(units.classes) // 2] for units in sets])
    small = cut(analysis, removed)
    assert sum(parameter.numel() for parameter in small.parameters()) == NETWORKS[name][2]
    reasons = stays_whole(analysis, frozenset(prunable_weights(model)))
    assert all(reasons.values())


def test_a_layer_that_makes_outputs_stays_whole_and_says_so() -> None:
    model, inputs = made("two-inputs")
    reasons = stays_whole(analyze(capture(model, inputs)), frozenset(prunable_weights(model)))
    assert reasons == dict.fromkeys(("out.weight", "other.weight"), "it produces the network's outputs")


def test_a_network_whose_way_depends_on_values_is_refused_with_the_reason() -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UncapturedError, match=r"torch\.export cannot follow it"):
        capture(Branching(), torch.ones(2, 3))
