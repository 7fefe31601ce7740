"""Paradigms over sparsities: the best, the spread and the trials of each pair; the sparsest near the dense network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from told_search import Told

from prune_search.report.compare import compare_data
from prune_search.report.matrix import band_text, cell_text, matrix_data


def row(paradigm: str, sparsity: float, accuracy: float, **other: Any) -> dict[str, Any]:
    metrics = {"val/accuracy": accuracy, "sparsity": sparsity}
    return {
        "status": "completed",
        "paradigm": paradigm,
        "name": f"{paradigm}-{accuracy}",
        "metrics": metrics,
        "seeds": 1,
    } | other


def test_a_cell_has_the_best_the_worst_and_the_number_of_trials() -> None:
    rows = [row("snip", 0.9, 0.9), row("snip", 0.902, 0.8), row("synflow", 0.9, 0.85, seeds=3), row("snip", 0.5, 0.95)]
    rows.append(row("synflow", 0.5, 0.99, status="stopped"))
    found = matrix_data(rows, "val/accuracy", "maximize")
    assert found["bands"] == [[0.5, 0.5], [0.9, 0.902]]
    snip, synflow = found["paradigms"]
    assert (snip["paradigm"], synflow["paradigm"]) == ("snip", "synflow")
    best = {"best": 0.9, "worst": 0.8, "trials": 2, "name": "snip-0.9", "first": True}
    assert snip["cells"][1] == best
    assert synflow["cells"] == [
        None,
        {"best": 0.85, "worst": 0.85, "trials": 3, "name": "synflow-0.85", "first": False},
    ]
    assert [cell_text(cell) for cell in (None, snip["cells"][1])] == ["", "0.900–0.800 ×2"]
    assert [band_text(band) for band in found["bands"]] == ["50 %", "90.2 %"]


def test_smaller_is_better_where_the_metric_says_so() -> None:
    rows = [row("snip", 0.9, 3.0), row("synflow", 0.9, 2.0)]
    assert matrix_data(rows, "val/accuracy", "minimize")["paradigms"][0]["paradigm"] == "synflow"


def test_many_sparsities_are_put_into_few_columns_and_nothing_is_lost() -> None:
    rows = [row("snip", place / 100, 0.9) for place in range(40, 100, 2)]
    found = matrix_data(rows, "val/accuracy", "maximize")
    assert len(found["bands"]) <= 6
    assert sum(cell["trials"] for cell in found["paradigms"][0]["cells"] if cell) == len(rows)


def test_of_nothing_the_matrix_is_empty() -> None:
    assert matrix_data([], "val/accuracy", "maximize") == {"metric": "val/accuracy", "bands": [], "paradigms": []}


def test_the_sparsest_near_the_dense_network_is_named_beside_the_best(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    assert compare_data([told.records])["sparsest"] is None
    told.dense(0.96)
    told.trial("snip", 0.98, 0.90)
    assert compare_data([told.records])["sparsest"]["name"] is None
    told.trial("snip", 0.9, 0.951)
    told.trial("snip", 0.8, 0.97)
    found = compare_data([told.records])["sparsest"]
    assert (found["name"], found["condition"]) == ("002-snip", "val/accuracy >= dense - 1%")
    assert found["metrics"] == {"val/accuracy": 0.951, "sparsity": 0.9}
