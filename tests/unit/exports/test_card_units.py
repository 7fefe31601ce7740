"""Figures of a card with their units."""

from __future__ import annotations

import pytest

from prune_search.exports.card_units import human, scaled


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("train/backward_flops_sparse", 2e15, "2 PFLOPs"),
        ("model/flops", 47360.0, "47.4 kFLOPs"),
        ("model/packed_bytes", 999.0, "999 B"),
        ("model/parameters", 1922.0, "1,922"),
        ("steps_trained", 64350.0, "64,350"),
        ("latency/batch-1", 0.51234, "0.512 ms"),
        ("sparsity/all_parameters", 0.68689, "68.69 %"),
        ("val/perplexity", 30.9312, "30.9312"),
    ],
)
def test_a_figure_has_the_unit_of_its_metric(name: str, value: float, shown: str) -> None:
    assert human(name, value) == shown


def test_what_is_below_a_thousand_has_no_prefix() -> None:
    assert scaled(-12.5, "B") == "-12.5 B"
