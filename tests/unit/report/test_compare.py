"""What people read of a search: rows, ranks, the Pareto front, controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from told_search import Told

from prune_search.recipe.problems import UserError
from prune_search.report.compare import Question, compare_data, shared_ranks


def rows_by_name(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in data["rows"]}


def test_each_recipe_is_a_row_with_its_distance_from_the_dense_network(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    told.trial("random", 0.9, 0.90)
    data = compare_data([told.records])
    first, second = data["rows"]
    assert (first["name"], first["paradigm"], first["rank"], first["seeds"]) == ("001-snip", "snip", 1, 1)
    assert first["delta_dense"] == pytest.approx(-0.03)
    assert first["params"] == {"mask.sparsity": 0.9}
    assert first["metrics"]["val/accuracy"] == 0.95
    assert first["deviation"] == {}
    assert (second["name"], second["rank"]) == ("002-random", 2)
    assert data["best"] == first["key"]
    assert len(first["key"]) == 64
    assert data["constraints_met"] is True


def test_trials_that_differ_only_in_the_seed_are_one_row_with_mean_and_deviation(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.dense(0.98)
    for seed, accuracy in ((2, 0.94), (0, 0.90), (1, 0.92)):
        told.trial("snip", 0.9, accuracy, seed=seed)
    told.trial("snip", 0.8, 0.5)
    row = compare_data([told.records])["rows"][0]
    assert row["seeds"] == 3
    assert row["metrics"]["val/accuracy"] == pytest.approx(0.92)
    assert row["deviation"]["val/accuracy"] == pytest.approx(0.02)
    assert row["delta_dense"] == pytest.approx(-0.06)
    assert row["trials"] == ["told/000002", "told/000003", "told/000001"]
    assert row["id"] == "000002"


def test_rows_whose_intervals_over_seeds_overlap_share_a_rank(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    figures = {0.9: (0.94, 0.90), 0.8: (0.93, 0.91), 0.7: (0.81, 0.80), 0.6: (0.70, 0.71)}
    for sparsity, accuracies in figures.items():
        for seed, accuracy in enumerate(accuracies):
            told.trial("snip", sparsity, accuracy, seed=seed)
    assert [row["rank"] for row in compare_data([told.records])["rows"]] == [1, 1, 3, 4]


@pytest.mark.parametrize(
    ("intervals", "ranks"),
    [
        ([], []),
        ([(0.9, 0.9), (0.9, 0.9), (0.8, 0.8)], [1, 1, 3]),
        # The second is as good as the first, the third as good as the second, and the first better than the third.
        ([(0.90, 0.95), (0.85, 0.91), (0.80, 0.86), (0.1, 0.2)], [1, 1, 2, 4]),
        ([(0.5, 0.5), None, (0.4, 0.4)], [1, None, 2]),
    ],
)
def test_shared_ranks(intervals: list[tuple[float, float] | None], ranks: list[int | None]) -> None:
    assert shared_ranks(intervals) == ranks


def test_where_smaller_is_better_the_least_is_first() -> None:
    assert shared_ranks([(0.1, 0.1), (0.2, 0.3), (0.25, 0.4)], larger=False) == [1, 2, 2]


def test_what_the_size_of_the_validation_set_explains_is_a_tie(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    for sparsity, accuracy in ((0.9, 0.95), (0.8, 0.94), (0.7, 0.80)):
        told.trial("snip", sparsity, accuracy)
    records = told.records
    assert [row["rank"] for row in compare_data([records])["rows"]] == [1, 2, 3]
    definition: Any = records.definition
    definition["validated"] = 360
    assert [row["rank"] for row in compare_data([records])["rows"]] == [1, 1, 3]
    definition["validated"] = 100_000
    assert [row["rank"] for row in compare_data([records])["rows"]] == [1, 2, 3]


def test_a_recipe_that_was_proposed_twice_counts_once(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    first = told.trial("snip", 0.9, 0.95)
    told.trial("snip", 0.9, 0.95, twin=first, steps_trained=0, steps_saved=100, seconds=0.0)
    (row,) = compare_data([told.records])["rows"]
    assert row["seeds"] == 1
    assert row["trials"] == ["told/000001"]


def test_what_did_not_run_to_its_end_comes_last_without_a_rank(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.failed(0.7)
    stopped = told.trial("snip", 0.8, 0.99, status="stopped", result=None)
    told.trial("snip", 0.9, 0.5)
    told.running("snip", 0.6)
    data = compare_data([told.records])
    assert [(row["status"], row["rank"]) for row in data["rows"]] == [
        ("completed", 1),
        ("stopped", None),
        ("failed", None),
    ]
    assert data["rows"][1]["id"] == stopped
    assert data["rows"][2]["error"] == {"kind": "nan", "message": "the loss is not a number at step 40"}
    assert data["rows"][2]["metrics"] == {}
    assert data["pareto"] == [data["rows"][0]["key"]]


def test_the_pareto_front_and_the_best_are_those_of_the_goals(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, constraints="[sparsity >= 85%, val/accuracy >= dense - 5%]")
    told.dense(0.98)
    told.trial("snip", 0.5, 0.97)
    told.trial("snip", 0.9, 0.95)
    told.trial("random", 0.9, 0.94)
    told.trial("snip", 0.95, 0.93)
    data = compare_data([told.records])
    rows = rows_by_name(data)
    assert data["pareto"] == [rows["002-snip"]["key"], rows["004-snip"]["key"]]
    assert [rows[name]["pareto"] for name in sorted(rows)] == [False, True, False, True]
    assert data["best"] == rows["002-snip"]["key"]
    assert data["constraints_met"] is True


def test_where_no_trial_meets_the_constraints_it_is_said(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, constraints="[sparsity >= 99%]")
    told.trial("snip", 0.5, 0.97)
    told.trial("snip", 0.9, 0.60)
    data = compare_data([told.records])
    assert data["constraints_met"] is False
    assert data["best"] == rows_by_name(data)["002-snip"]["key"]


def test_a_lucky_seed_is_not_on_the_front(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    for seed, accuracy in enumerate((0.99, 0.80)):
        told.trial("random", 0.9, accuracy, seed=seed)
    told.trial("snip", 0.9, 0.95)
    data = compare_data([told.records])
    assert [row["paradigm"] for row in data["rows"] if row["pareto"]] == ["snip"]


def test_test_metrics_are_neither_shown_nor_ranked_by(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    data = compare_data([told.records])
    assert not any(name.startswith("test/") for row in (*data["rows"], *data["controls"]) for name in row["metrics"])
    with pytest.raises(UserError, match="--sort: 'test/accuracy' is measured on test data"):
        compare_data([told.records], Question("test/accuracy"))


def test_another_metric_ranks_with_its_own_better_end(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.95)
    told.trial("snip", 0.95, 0.93)
    data = compare_data([told.records], Question("sparsity"))
    assert [(row["rank"], row["metrics"]["sparsity"]) for row in data["rows"]] == [(1, 0.95), (2, 0.9)]
    assert data["sort"] == "maximize sparsity"
    assert compare_data([told.records], Question("steps_trained"))["sort"] == "minimize steps_trained"
    with pytest.raises(UserError, match=r"--sort: 'sparsty' is not one of .*did you mean 'sparsity'"):
        compare_data([told.records], Question("sparsty"))


def test_a_metric_that_was_no_number_is_left_out(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.95)
    assert "val/loss" not in compare_data([told.records])["rows"][0]["metrics"]


def test_several_searches_share_one_table_and_keep_their_own_dense_network(tmp_path: Path) -> None:
    monday, tuesday = Told.begin(tmp_path, "monday"), Told.begin(tmp_path, "tuesday")
    monday.dense(0.98)
    tuesday.dense(0.90)
    monday.trial("snip", 0.9, 0.95)
    tuesday.trial("random", 0.9, 0.94)
    tuesday.trial("snip", 0.9, 0.97, seed=1)
    data = compare_data([monday.records, tuesday.records])
    assert data["searches"] == ["monday", "tuesday"]
    snip, random = data["rows"]
    assert snip["trials"] == ["monday/000001", "tuesday/000002"]
    assert snip["delta_dense"] == pytest.approx((-0.03 + 0.07) / 2)
    assert (random["search"], random["delta_dense"]) == ("tuesday", pytest.approx(0.04))
    assert [(control["search"], control["name"]) for control in data["controls"]] == [
        ("monday", "control-dense"),
        ("tuesday", "control-dense"),
    ]


def test_searches_on_different_data_are_not_compared(tmp_path: Path) -> None:
    here = Told.begin(tmp_path, "here").records
    there = Told.begin(tmp_path, "there").records
    there.definition = {**there.definition, "task": {"data": "mnist", "model": "mlp"}}
    with pytest.raises(UserError, match="there: is on mnist, and here on digits"):
        compare_data([here, there])


def test_a_search_in_which_nothing_has_ended_has_no_rows_and_no_best(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.running("snip", 0.9)
    data = compare_data([told.records])
    assert (data["rows"], data["pareto"], data["best"], data["constraints_met"]) == ([], [], None, False)


def test_without_a_dense_control_there_is_no_distance_from_it(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.95)
    (row,) = compare_data([told.records])["rows"]
    assert row["delta_dense"] is None
