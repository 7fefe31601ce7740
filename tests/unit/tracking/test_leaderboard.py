"""The order of the trials on a search's page: best first, those that miss a constraint last."""

from __future__ import annotations

from pathlib import Path

from told_search import Told

from prune_search.tracking.leaderboard import DOMINATED, MISSES, PARETO, directions, fronts, goals_of, placed


def test_the_front_goes_before_what_it_dominates_and_that_before_what_misses_a_constraint(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=5, constraints='["val/accuracy >= 0.8"]')
    told.trial("snip", 0.9, 0.70)
    told.trial("snip", 0.6, 0.85)
    told.trial("random", 0.8, 0.90)
    told.trial("random", 0.5, 0.95)
    told.failed(0.7)
    board = placed(told.records)
    assert [(row.trial.id, row.pareto) for row in board] == [
        ("000004", True),
        ("000003", True),
        ("000002", False),
        ("000001", False),
    ]
    assert [row.violation > 0 for row in board] == [False, False, False, True]
    assert fronts(board) == {"000004": PARETO, "000003": PARETO, "000002": DOMINATED, "000001": MISSES}


def test_a_recipe_that_was_repeated_is_left_out(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    first = told.trial("snip", 0.9, 0.7)
    told.trial("snip", 0.9, 0.7, twin=first, status="duplicate")
    assert [row.trial.id for row in placed(told.records)] == [first]
    assert placed(Told.begin(tmp_path, "empty").records) == []


def test_every_metric_that_a_search_looks_at_has_a_direction(tmp_path: Path) -> None:
    constraints = '["model/nonzero <= 1000", "val/loss <= 2"]'
    told = Told.begin(tmp_path, constraints=constraints, objectives="[maximize val/accuracy, minimize val/loss]")
    assert directions(goals_of(told.records)) == {
        "val/accuracy": "maximize",
        "val/loss": "minimize",
        "model/nonzero": "minimize",
    }
