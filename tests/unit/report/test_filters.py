"""Which rows are looked at, and what they are put together by."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.recipe.problems import UserError
from prune_search.report.compare import Question, compare_data
from prune_search.report.filters import Filters


@pytest.fixture
def told(tmp_path: Path) -> Told:
    told = Told.begin(tmp_path)
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    told.trial("snip", 0.9, 0.93, seed=1)
    told.trial("random", 0.9, 0.70)
    told.trial("snip", 0.95, 0.90)
    told.trial("random", 0.5, 0.97)
    return told


def names(told: Told, *only: str) -> list[str]:
    return [row["name"] for row in compare_data([told.records], Question(only=only))["rows"]]


def test_only_rows_that_meet_every_condition_are_ranked(told: Told) -> None:
    assert names(told, "sparsity>=0.9") == ["001-snip", "004-snip", "003-random"]
    assert names(told, "sparsity >= 90%", "val/accuracy >= 0.9") == ["001-snip", "004-snip"]
    assert names(told, "sparsity <= 0.5") == ["005-random"]
    # The mean over the seeds is what counts.
    assert names(told, "val/accuracy >= 0.945") == ["005-random"]


def test_a_bound_can_be_relative_to_the_dense_network(told: Told) -> None:
    assert names(told, "val/accuracy >= dense - 5%") == ["005-random", "001-snip"]
    with pytest.raises(UserError, match="--where: steps_trained of the dense network is not known"):
        Filters.read(["steps_trained <= 2 * dense"], {"val/accuracy": 0.98})


def test_front_and_best_are_those_of_what_is_left(told: Told) -> None:
    data = compare_data([told.records], Question(only=("sparsity >= 0.9",)))
    assert data["left_out"] == 1
    assert data["where"] == ["sparsity >= 0.9"]
    assert data["best"] == data["rows"][0]["key"]
    assert [row["name"] for row in data["rows"] if row["pareto"]] == ["001-snip", "004-snip"]
    nothing = compare_data([told.records], Question(only=("sparsity >= 0.99",)))
    assert (nothing["rows"], nothing["best"], nothing["left_out"]) == ([], None, 4)


def test_everything_that_is_wrong_with_conditions_is_said_at_once() -> None:
    with pytest.raises(UserError) as raised:
        Filters.read(["sparsty >= 0.9", "sparsity > 0.9", "test/accuracy >= 0.5"], {})
    unknown, no_condition, hidden = raised.value.problems
    assert "'sparsty' is not one of" in unknown.message
    assert "did you mean 'sparsity'" in unknown.message
    assert "must be METRIC >= VALUE" in no_condition.message
    assert "measured on test data" in hidden.message
    assert {problem.path for problem in raised.value.problems} == {"--where"}


def test_rows_are_put_together_by_paradigm_and_by_keys_of_the_recipe(told: Told) -> None:
    data = compare_data([told.records], Question(by="paradigm"))
    best, other = data["groups"]
    assert (best["value"], best["name"], best["rows"], best["pareto"]) == ("random", "005-random", 2, 1)
    assert (best["least"], best["most"]) == (0.70, 0.97)
    assert best["mean"] == pytest.approx(0.835)
    assert other["deviation"]["val/accuracy"] == pytest.approx(0.0141, abs=1e-4)
    by = {
        key: [group["value"] for group in compare_data([told.records], Question(by=key))["groups"]]
        for key in ("mask.criterion", "mask.sparsity", "search", "rounds")
    }
    assert by == {
        "mask.criterion": ["random", "snip"],
        "mask.sparsity": ["0.5", "0.9", "0.95"],
        "search": ["told"],
        "rounds": ["1"],
    }


def test_a_key_that_no_recipe_has_is_refused_with_the_nearest(told: Told) -> None:
    with pytest.raises(UserError, match=r"--by: 'paradim' is not one of .*did you mean 'paradigm'"):
        compare_data([told.records], Question(by="paradim"))
