"""The rounds of chains as results of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from told_search import Told

from prune_search.ledger.ranking import Goals
from prune_search.report.points import earlier_rounds, points_data


def a_round(number: int, accuracy: float, mask: str = "") -> dict[str, Any]:
    metrics = {"val/accuracy": accuracy, "sparsity": 1 - 0.5**number, "val/loss": None, "steps_trained": 10.0 * number}
    return {"round": number, "mask_sha256": mask or f"mask {number}", "metrics": metrics}


def chain(told: Told, sparsity: float, *rounds: dict[str, Any], **ended: Any) -> str:
    """A trial with these rounds, of which the last one is its result."""
    last = {"metrics": rounds[-1]["metrics"], "mask_sha256": rounds[-1]["mask_sha256"]}
    result = {"key": f"{sparsity}", "rounds": list(rounds), **last}
    return told.trial("lottery-ticket", sparsity, 0.0, result=result, **ended)


def test_each_network_is_a_point_once_and_the_last_round_is_the_trial(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    shared = a_round(1, 0.9), a_round(2, 0.8)
    chain(told, 0.8, *shared, a_round(3, 0.7))
    chain(told, 0.9, *shared, a_round(3, 0.6, "another mask"))
    assert [(point.trial.id, point.data["round"]) for point in earlier_rounds([told.records])] == [
        ("000001", 1),
        ("000001", 2),
    ]


def test_a_round_that_is_another_trials_last_is_left_to_that_trial(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    chain(told, 0.8, a_round(1, 0.9), a_round(2, 0.8), a_round(3, 0.7))
    chain(told, 0.7, a_round(1, 0.9), a_round(2, 0.8))
    assert [point.data["round"] for point in earlier_rounds([told.records])] == [1]


def test_chains_that_did_not_complete_have_no_points(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    chain(told, 0.8, a_round(1, 0.9), a_round(2, 0.8), status="stopped")
    assert earlier_rounds([told.records]) == []


def points_of(told: Told, **options: Any) -> list[dict[str, Any]]:
    records = told.records
    goals = Goals.of(records.definition["space"]["search"])
    return points_data([records], records.numbered(), goals, None, **options)


def test_a_point_has_the_name_of_its_trial_and_only_figures_that_are_there(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    chain(told, 0.8, a_round(1, 0.9), a_round(2, 0.5), a_round(3, 0.7))
    first, second = points_of(told)
    assert (first["name"], first["round"], second["round"]) == ("001-lottery-ticket", 1, 2)
    assert set(first["metrics"]) == {"val/accuracy", "sparsity", "steps_trained"}
    kept = points_of(told, keeps=lambda metrics: metrics["sparsity"] > 0.6)
    assert [point["round"] for point in kept] == [2]


def test_points_and_trials_share_one_front(tmp_path: Path) -> None:
    """The first round is more accurate than the last; the second is less accurate and less sparse."""
    told = Told.begin(tmp_path)
    chain(told, 0.8, a_round(1, 0.9), a_round(2, 0.5), a_round(3, 0.7))
    assert [point["pareto"] for point in points_of(told)] == [True, False]
