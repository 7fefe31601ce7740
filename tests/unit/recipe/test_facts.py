"""What an entry that declares nothing is taken to be."""

from __future__ import annotations

from decimal import Decimal

import pytest

from prune_search.recipe.facts import Criterion, DynamicsFacts, Metric, Scheduler, Transform


@pytest.mark.parametrize(
    ("facts", "in_training"),
    [
        (Metric(split="validation"), True),
        (Metric(split="test"), False),
        (Metric(), False),
        (Metric(mid_training=True), True),
        (Metric(split="validation", mid_training=False), False),
    ],
)
def test_a_metric_of_validation_data_is_taken_in_training_unless_it_says_otherwise(
    facts: Metric, in_training: bool
) -> None:
    assert facts.in_training is in_training


def test_functions_that_are_not_declared_take_any_options_and_say_nothing() -> None:
    options = {"anything": 1}
    assert Criterion().steps({"batches": 2}, **options) == 0
    assert Criterion().of_share(**options) is False
    assert Transform().leaves_penalty(**options) == Decimal(0)
    assert Scheduler().keeps(**options) == 1.0
    dynamics = DynamicsFacts()
    assert dynamics.settles(100, 10, **options) == dynamics.full_gradients(100, 10, **options) == 0
    assert list(dynamics.misplaced(100, 10, **options)) == []
    assert dynamics.mean_kept(0.2, 100, 10, **options) == 0.2
