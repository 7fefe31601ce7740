"""Sparsity paths: where they begin, where they end, and what their papers say lies between."""

from __future__ import annotations

from decimal import Decimal

import pytest

from prune_search.pruning.retrain.dynamics.gradual import share_at
from prune_search.recipe.axes import PATHS

TENTH = Decimal("0.1")


def test_the_cubic_path_has_the_paper_s_three_points() -> None:
    """Zhu & Gupta 2017, eq. 1, with s_i = 0 and s_f = .9: sparsity 0, .7875 half way, .9."""
    path = PATHS["cubic"].make
    assert [1 - path(TENTH, Decimal(t)) for t in ("0", "0.5", "1")] == [0, Decimal("0.7875"), Decimal("0.9")]


def test_the_exponential_path_removes_the_same_factor_at_each_step() -> None:
    shares = [PATHS["exponential"].make(Decimal("0.0625"), Decimal(t) / 4) for t in range(5)]
    assert [float(share) for share in shares] == [1.0, 0.5, 0.25, 0.125, 0.0625]
    assert PATHS["exponential"].make(Decimal(0), Decimal("0.5")) == 0


def test_the_linear_path_removes_the_same_amount_at_each_step() -> None:
    shares = [PATHS["linear"].make(Decimal("0.2"), Decimal(t) / 4) for t in range(5)]
    assert shares == [Decimal(share) for share in ("1", "0.8", "0.6", "0.4", "0.2")]


def test_one_shot_removes_everything_at_the_end_and_nothing_before() -> None:
    assert PATHS["one-shot"].make(TENTH, Decimal("0.999")) == 1
    assert PATHS["one-shot"].make(TENTH, Decimal(1)) == TENTH


@pytest.mark.parametrize(
    ("step", "share"), [(-5, "1"), (0, "1"), (100, "1"), (200, "0.2125"), (300, "0.1"), (301, "0.1"), (10**6, "0.1")]
)
def test_gradual_pruning_keeps_all_before_its_path_and_the_asked_share_after_it(step: int, share: str) -> None:
    assert share_at("cubic", TENTH, step, 100, 300) == Decimal(share)


def test_a_path_of_no_length_is_a_jump() -> None:
    assert [share_at("cubic", TENTH, step, 100, 100) for step in (99, 100, 101)] == [1, TENTH, TENTH]
