"""The progress of a search as it is drawn: counts, the best so far, the front, and a line per trial that ended."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from told_search import Told

from prune_search.cli.watch import SearchDisplay, watching_search


def drawn(display: SearchDisplay) -> list[str]:
    with display.console.capture() as seen:
        display.console.print(display.drawn())
    return seen.get().splitlines()


def display_of(width: int, seconds: float = 0.0) -> SearchDisplay:
    return SearchDisplay(Console(file=io.StringIO(), width=width), clock=lambda: seconds)


def test_a_trial_that_ended_is_a_line_with_the_reason_where_it_did_not_complete(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, "monday", trials=4)
    told.dense(0.98)
    first = told.trial("snip", 0.9, 0.95)
    stopped = told.trial("snip", 0.8, 0.6, status="stopped")
    failed = told.failed(0.7)
    file = io.StringIO()
    display = SearchDisplay(Console(file=file, width=60))
    for trial in (first, stopped, failed):
        display(told.records, told.records.trials[trial])
    assert file.getvalue().splitlines() == [
        "3/4  001-snip  completed  val/accuracy 0.9500  sparsity 0.9000",
        "3/4  002-snip  stopped  val/accuracy 0.6000  sparsity 0.8000"
        "  at step 100: others were better at the same maturity",
        "3/4  003-snip  failed  nan: the loss is not a number at step 40",
    ]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (60, "1/2  001-snip  val/accuracy 0.9500  sparsity 0.9000"),
        (80, "1/2  001-snip  completed  val/accuracy 0.9500  sparsity 0.9000"),
        (90, "1/2  001-snip  completed  val/accuracy 0.9500  sparsity 0.9000 (0.8000 of all parameters)"),
    ],
)
def test_a_narrow_terminal_leaves_out_of_a_line_what_compare_says_too(tmp_path: Path, width: int, line: str) -> None:
    told = Told.begin(tmp_path, trials=2)
    first = told.trial("snip", 0.9, 0.95, of_all=0.8)
    file = io.StringIO()
    display = SearchDisplay(Console(file=file, width=width, force_terminal=True, color_system=None))
    display(told.records, told.records.trials[first])
    assert file.getvalue().splitlines() == [line]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal_and_no_count_is_cut(tmp_path: Path, width: int) -> None:
    told = Told.begin(tmp_path, "a-search-with-a-long-name", trials=400)
    for place in range(12):
        told.trial("snip", 0.5 + place / 25, 0.99 - place / 50, seconds=3600.0)
    told.failed(0.7)
    told.running("snip", 0.5)
    display = display_of(width)
    display(told.records, None)
    lines = drawn(display)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines), lines
    assert "13/400 finished  1 running  386 waiting  1 failed" in lines[0]
    assert lines[1].startswith("best   001-snip  val/accuracy 0.9900  sparsity 0.5000")
    assert lines[2].startswith("front  94.0%: 0.7700  90.0%: 0.7900")
    assert "more" in lines[2]


def test_counts_are_right_from_the_first_look_and_time_runs_down(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=3)
    told.running("snip", 0.5)
    display = display_of(100)
    assert drawn(display) == ["starting …"]
    display(told.records, None)
    assert "0/3 finished  1 running  2 waiting" in drawn(display)[0]
    told.trial("snip", 0.9, 0.95, seconds=20.0)
    now = 1e9
    display = SearchDisplay(display.console, clock=lambda: now)
    display(told.records, None)
    # Two trials and three controls are left, two at once.
    assert drawn(display)[0].endswith("  50 s left")
    now += 20.0
    assert drawn(display)[0].endswith("  30 s left")


def test_between_two_looks_trials_are_counted_and_the_best_is_sought_with_the_last_one(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=3)
    display = display_of(100)
    told.trial("snip", 0.9, 0.95)
    display(told.records, None)
    # Its start is not read yet.
    told.propose("snip", 0.5)
    records = told.records
    display(replace(records, at_work=[max(records.trials)]), None)
    assert display.counts == (1, 1, 1, 3)
    told.trial("snip", 0.8, 0.96)
    display(told.records, None)
    assert display.best is not None
    assert display.best[1].startswith("val/accuracy 0.9500")
    told.trial("snip", 0.7, 0.97)
    display(told.records, None)
    assert display.counts == (3, 0, 0, 3)
    assert display.best[1].startswith("val/accuracy 0.9700")


def test_what_waits_for_a_worker_does_not_run(tmp_path: Path) -> None:
    """Where this process hands out the trials it knows which have one; elsewhere the records say which have begun."""
    told = Told.begin(tmp_path, trials=8)
    display = display_of(100)
    for _ in range(3):
        told.running("snip", 0.5)
    records = told.records
    display(replace(records, at_work=sorted(records.trials)[:1]), None)
    assert display.counts == (0, 1, 7, 8)
    display(records, None)
    assert display.counts == (0, 3, 5, 8)


def test_quiet_has_no_listener() -> None:
    with watching_search(quiet=True) as listener:
        assert listener is None
