"""The rule of a mask as it is read from a recipe, its loss, and the input that is shown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.recipe.blocks import Score
from prune_search.recipe.space import read_space

OUTPUTS, LABELS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3


def test_a_rule_has_the_values_of_the_mask_block() -> None:
    raw = {"preset": "snip", "mask": {"scope": "erk", "control": "shuffle", "rounding": "floor-drop"}}
    recipe = read_space(raw, "a test").only_recipe()
    rule = MaskRule.of(recipe.mask)
    assert (rule.criterion.name, rule.scope.name, rule.granularity.name) == ("snip", "erk", "weight")
    assert rule.control is not None
    assert (rule.control.name, rule.rounding) == ("shuffle", "floor-drop")
    wanted = nn.functional.cross_entropy(OUTPUTS, LABELS)
    assert torch.equal(rule.loss()(OUTPUTS, LABELS), wanted)


def test_a_callers_own_loss_is_taken_as_it_is() -> None:
    def own(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.sum()

    snip = MaskRule.of(read_space({"preset": "snip"}, "a test").only_recipe().mask)
    score = Score(**{**vars(snip.score), "loss": own})
    rule = MaskRule(snip.criterion, snip.scope, snip.granularity, score)
    assert rule.loss() is own


def test_the_input_that_is_shown_is_the_example_else_the_first_of_the_batches() -> None:
    batch = (torch.ones(2, 3), torch.zeros(2))
    assert ScoringData(lambda _: [batch], None, 1, 1).shown() is batch[0]
    assert ScoringData(lambda _: [], None, 1, 1).shown() is None
    example = torch.zeros(1, 3)
    assert ScoringData(lambda _: [batch], None, 1, 1, lambda: example).shown() is example
