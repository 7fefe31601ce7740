"""Scales of metrics."""

from __future__ import annotations

import math

import pytest

from prune_search.search.guided.targets import Target

CASES = [
    ("val/accuracy", "maximize", [0.5, 0.9], True),
    ("val/loss", "minimize", [0.2, 2.0], True),
    ("cost/latency_ms", "minimize", [1.0, 9.0], False),
    ("val/r2", "maximize", [-0.4, 0.8], True),
    ("val/margin", "maximize", [-0.4, 0.8], False),
    ("val/margin", "maximize", [], False),
]


@pytest.mark.parametrize(("metric", "direction", "figures", "is_error"), CASES)
def test_a_better_figure_is_larger_on_every_scale(
    metric: str, direction: str, figures: list[float], is_error: bool
) -> None:
    target = Target.of(metric, direction, figures)
    better, worse = (0.7, 0.6) if direction == "maximize" else (0.6, 0.7)
    assert target.scaled(better) > target.scaled(worse)
    assert target.is_error == is_error


def test_shares_count_by_their_errors() -> None:
    target = Target.of("val/accuracy", "maximize", [])
    assert target.scaled(0.9) == pytest.approx(-math.log(0.103))
    # A right answer more or less cannot be told apart where all are right.
    assert math.isfinite(target.scaled(1.0))
