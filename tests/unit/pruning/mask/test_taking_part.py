"""Which weights take part in a mask, and why the others do not."""

from __future__ import annotations

from typing import Any

import torch
from block_network import BATCHES, network

from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.taking_part import ASKED_OUT, MAKES_OUTPUTS, OUTSIDE, units_and_others, units_in
from prune_search.recipe.blocks import Mask

DATA = ScoringData(lambda iteration: BATCHES, None, 0, 1)


def rule_of(scope: Any, granularity: str = "weight") -> MaskRule:
    return MaskRule.of(
        Mask.of({"at": "end", "criterion": "magnitude", "scope": scope, "granularity": granularity, "score": {}})
    )


def test_weights_outside_of_the_blocks_take_no_part_in_their_order() -> None:
    sets, others = units_and_others(network(), rule_of({"name": "uniform", "order": "blocks"}), DATA)
    assert len(sets) == 9
    assert others == {"head.weight": f"{OUTSIDE} blocks: 3 of Block"}
    assert len(units_in(network(), rule_of("uniform"), DATA)) == 10


def test_what_was_asked_out_and_what_makes_the_outputs() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    x = torch.randn(3, 4)
    data = ScoringData(lambda iteration: [(x, x)], None, 0, 1)
    sets, others = units_and_others(model, rule_of({"name": "uniform", "exclude": ["0"]}, "filter"), data)
    assert [one.name for one in sets] == ["1.weight"]
    assert others == {"0.weight": ASKED_OUT, "2.weight": MAKES_OUTPUTS}
