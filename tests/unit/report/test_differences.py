"""Two recipes side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.api.compare import compare, differing
from prune_search.recipe.problems import UserError
from prune_search.report.differences import Side, difference, side_in


@pytest.fixture
def told(tmp_path: Path) -> Told:
    told = Told.begin(tmp_path, "monday")
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    told.trial("snip", 0.9, 0.93, seed=1)
    told.trial("random", 0.95, 0.70)
    return told


def test_the_keys_that_differ_are_named_and_the_figures_subtracted(told: Told) -> None:
    sides = [side_in([told.records], name) for name in ("001-snip", "003-random")]
    assert sides[0] is not None
    assert sides[1] is not None
    data = difference(sides[0], sides[1])
    keys = {line["key"]: (line["a"], line["b"]) for line in data["recipe"]}
    assert keys["mask.criterion"] == ("snip", "random")
    assert keys["mask.sparsity.final"] == (0.9, 0.95)
    assert "train.batch" not in keys
    metrics = {line["metric"]: line for line in data["metrics"]}
    assert metrics["val/accuracy"]["difference"] == pytest.approx(0.70 - 0.94)
    assert metrics["val/accuracy"]["deviation_a"] == pytest.approx(0.0141, abs=1e-4)
    assert metrics["val/accuracy"]["deviation_b"] is None
    assert "test/accuracy" not in metrics
    assert (data["a"]["seeds"], data["b"]["seeds"]) == (2, 1)


def test_a_trial_is_found_by_name_number_and_key_whatever_its_seed(told: Told) -> None:
    first = side_in([told.records], "001-snip")
    assert first is not None
    assert first.key is not None
    assert (
        side_in([told.records], "2") == side_in([told.records], "1") == side_in([told.records], first.key[:8]) == first
    )
    dense = side_in([told.records], "control-dense")
    assert dense is not None
    assert dense.metrics["val/accuracy"] == 0.98
    assert side_in([told.records], "snip") is None


def test_searches_stand_for_their_best_and_presets_for_themselves(told: Told, tmp_path: Path) -> None:
    data = differing([], ("monday", "snip"), tmp_path)
    assert data["a"]["name"] == "001-snip"
    assert data["b"] == {"name": "snip", "search": None, "key": None, "seeds": 0}
    assert {line["key"] for line in data["recipe"]} >= {"mask.sparsity.final"}
    assert all(line["difference"] is None for line in data["metrics"])
    other = differing([told.records], ("monday/3", "001-snip"), tmp_path)
    assert (other["a"]["name"], other["b"]["name"]) == ("003-random", "001-snip")


def test_both_sides_that_are_nothing_are_said(told: Told, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        differing([told.records], ("monday/9", "0001-snp"), tmp_path)
    first, second = map(str, raised.value.problems)
    assert "--diff" in first
    assert "no finished trial has the name or key '9'" in first
    assert "did you mean '001-snip'" in second


def test_what_is_absent_on_one_side_is_none() -> None:
    data = difference(
        Side("a", None, None, {"mask": {"sparsity": {"final": 0.5}}, "weights": {"transform": []}}),
        Side("b", None, None, {"mask": {"sparsity": "learned"}, "weights": {"transform": [{"name": "reinit"}]}}),
    )
    assert data["recipe"] == [
        {"key": "mask.sparsity.final", "a": 0.5, "b": None},
        {"key": "weights.transform", "a": [], "b": None},
        {"key": "mask.sparsity", "a": None, "b": "learned"},
        {"key": "weights.transform.0", "a": None, "b": "reinit"},
    ]


def test_compare_in_python_takes_the_same_questions(told: Told, tmp_path: Path) -> None:
    from prune_search.api.where import Where

    data = compare("monday", where=Where(storage=tmp_path), only=["sparsity >= 0.95"], by="paradigm", diff=("1", "3"))
    assert [row["name"] for row in data["rows"]] == ["003-random"]
    assert [group["value"] for group in data["groups"]] == ["random"]
    assert data["difference"]["a"]["name"] == "001-snip"
    assert data["importance"][0]["knobs"] == {}
