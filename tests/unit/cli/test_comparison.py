"""What compare prints of a comparison's data."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told

from prune_search.cli.comparison import show_comparison, show_difference
from prune_search.report.compare import Question, compare_data


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def told(storage: Path) -> Told:
    search = Told.begin(storage)
    search.dense(0.98)
    for seed, accuracy in enumerate((0.94, 0.96)):
        search.trial("snip", 0.9, accuracy, seed=seed)
    search.trial("random", 0.5, 0.90)
    search.failed(0.7)
    return search


def test_a_leaderboard_ends_with_the_best_and_what_to_type_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = compare_data([told(tmp_path).records])
    show_comparison(data, str(tmp_path))
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "001-snip × 2 seeds *" in line)
    assert "0.9500 ± 0.0141" in line
    assert "-0.0300" in line
    assert "mask.sparsity=0.9" in line
    assert "failed" in next(line for line in out.splitlines() if "004-snip" in line)
    assert "control-dense" in out
    *_, best, sparsest, after = out.splitlines()
    assert sparsest == "sparsest within 1 % of dense: none has val/accuracy >= dense - 1%"
    assert best == f"best  001-snip  key {data['best'][:16]}"
    assert after == f"next  prune-search export told --to DIR --storage {tmp_path}"


def test_rows_that_a_condition_hides_are_counted_and_the_command_names_the_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path))
    show_comparison(compare_data([told(tmp_path).records], Question(None, ("sparsity <= 0.8",), None)), None)
    out = capsys.readouterr().out
    assert "hidden by --where sparsity <= 0.8" in out
    assert out.splitlines()[-1] == "next  prune-search export told --trial 003-random --to DIR"


@pytest.mark.parametrize(("columns", "left_out"), [(120, []), (60, ["− dense"]), (50, ["− dense", "sparsity"])])
def test_a_narrow_terminal_splits_no_name_and_says_which_columns_it_leaves_out(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    left_out: list[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_comparison(compare_data([told(tmp_path).records]), str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    board = "\n".join(lines[: [line.strip() for line in lines].index("Pareto front")])
    head = next(line for line in lines if "rank" in line)
    assert "001-snip × 2 seeds *" in board
    assert "0.9500 ± 0.0141" in board
    assert [name for name in ("− dense", "sparsity") if name not in head] == left_out
    said = " ".join(board.split())
    assert ("compare --wide shows all" in said) == bool(left_out)
    # What only a wider terminal gets is named too.
    assert ("“steps”, “params”: compare --wide" in said) == ("params" not in head)
    assert ("no room for " + ", ".join(f"“{head}”" for head in left_out) in said) == bool(left_out)


def test_wide_shows_every_column_and_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    search = Told.begin(tmp_path, trials=60)
    search.dense(0.99)
    for place in range(45):
        search.trial("snip", 0.5 + place / 100, 0.9)
    data = compare_data([search.records])
    show_comparison(data, None)
    said = capsys.readouterr().out
    assert "… 5 more: --wide" in said
    assert "− dense" not in next(line for line in said.splitlines() if "rank" in line)
    show_comparison(data, None, wide=True)
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if "rank" in line)
    assert all(name in head for name in ("− dense", "sparsity", "params"))
    assert sum("-snip" in line and "mask.sparsity=" in line for line in lines) == 45


def test_where_nothing_completed_nothing_is_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = Told.begin(tmp_path)
    search.failed(0.9)
    show_comparison(compare_data([search.records]), str(tmp_path))
    assert capsys.readouterr().out.splitlines()[-1] == "no trial has completed"


def test_two_recipes_are_shown_side_by_side_and_a_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "a": {"search": "told", "name": "[red]1"},
        "b": {"search": None, "name": "snip"},
        "recipe": [{"key": "mask.criterion", "a": "snip", "b": None}],
        "metrics": [
            {"metric": "flops", "a": 1200.0, "b": 1000.0, "deviation_a": None, "deviation_b": 0.5, "difference": -200.0}
        ],
    }
    show_difference(data)
    out = capsys.readouterr().out
    assert "told/[red]1" in out
    assert "–" in next(line for line in out.splitlines() if "mask.criterion" in line)
    flops = next(line for line in out.splitlines() if "flops" in line)
    assert flops.split() == ["flops", "1,200", "1,000", "±", "0.5000", "-200"]
    show_difference({**data, "recipe": [], "metrics": []})
    assert "are the same recipe" in capsys.readouterr().out
