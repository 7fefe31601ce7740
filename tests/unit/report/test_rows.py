"""Trials that differ only in their seed are one row, of the status that tells most."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.report.rows import place_of, rows_of, seen_by_a_search


def test_figures_of_test_data_and_what_is_no_number_are_not_compared() -> None:
    measured = {"val/accuracy": 0.9, "test/accuracy": 0.8, "test/mine": 0.7, "sparsity": 1, "x": True}
    assert seen_by_a_search({**measured, "val/loss": float("nan"), "y": None}) == {"val/accuracy": 0.9, "sparsity": 1.0}


def test_a_row_is_of_the_seeds_that_ran_to_their_end(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.90, seed=1)
    told.trial("snip", 0.9, 0.10, seed=0, status="stopped")
    told.trial("snip", 0.9, 0.94, seed=10)
    told.trial("snip", 0.9, 0.50, seed=10)
    (row,) = rows_of([told.records])
    assert [(run.seed, run.trial.id) for run in row.runs] == [(1, "000001"), (10, "000003")]
    assert row.status == "completed"
    assert row.metrics["val/accuracy"] == pytest.approx(0.92)
    assert row.interval("val/accuracy") == pytest.approx((0.92 - 0.0282843, 0.92 + 0.0282843))
    assert row.interval("flops") is None


def test_the_distance_from_dense_is_that_of_each_runs_own_search(tmp_path: Path) -> None:
    ours, theirs = Told.begin(tmp_path, "ours"), Told.begin(tmp_path, "theirs")
    ours.dense(0.95)
    ours.trial("snip", 0.9, 0.90, seed=0)
    theirs.dense(0.85)
    theirs.trial("snip", 0.9, 0.90, seed=1)
    (row,) = rows_of([ours.records, theirs.records])
    data = row.as_data("val/accuracy")
    assert [run.delta("val/accuracy") for run in row.runs] == pytest.approx([-0.05, 0.05])
    assert data["delta_dense"] == pytest.approx(0.0)
    assert (data["seeds"], data["trials"]) == (2, ["ours/000001", "theirs/000001"])
    assert data["params"] == {"mask.sparsity": 0.9}


def test_what_failed_is_a_row_without_figures_and_what_runs_is_none(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.failed(0.9)
    told.running("snip", 0.8)
    (row,) = rows_of([told.records])
    data = row.as_data("val/accuracy")
    assert (data["status"], data["key"], data["delta_dense"], data["metrics"]) == ("failed", None, None, {})
    assert data["error"]["kind"] == "nan"


def test_what_judges_trials_is_given_the_means(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.90, seed=0)
    told.trial("snip", 0.9, 0.94, seed=1)
    (row,) = rows_of([told.records])
    assert row.stand_in().metrics["val/accuracy"] == pytest.approx(0.92)
    assert row.stand_in().id == "told/000001"


def test_a_status_that_is_not_known_comes_last() -> None:
    statuses = ["new", "failed", "completed", "stopped"]
    assert sorted(statuses, key=place_of) == ["completed", "stopped", "failed", "new"]


def test_the_difference_from_dense_is_of_the_metric_that_ranks(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    (row,) = rows_of([told.records])
    (run,) = row.runs
    assert run.delta("val/accuracy") == pytest.approx(-0.03)
    assert row.as_data("sparsity")["delta_dense"] == pytest.approx(0.9)
    assert row.as_data("val/loss")["delta_dense"] is None
