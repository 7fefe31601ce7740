"""The progress of a search as it is drawn: counts, the best so far, and a line per trial without a terminal."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from told_search import Told

from prune_search.cli.watch import SearchBar, watching_search


def test_a_trial_that_ended_is_a_line_and_the_note_counts_all(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, "monday", trials=4)
    told.dense(0.98)
    first = told.trial("snip", 0.9, 0.95)
    failed = told.failed(0.7)
    told.running("snip", 0.5)
    file = io.StringIO()
    bar = SearchBar(Progress(console=Console(file=file, width=160), disable=True))
    records = told.records
    bar(records, records.trials[first])
    bar(records, records.trials[failed])
    assert file.getvalue().splitlines() == [
        "2/4  001-snip  completed  val/accuracy 0.9500  sparsity 0.9000",
        "2/4  002-snip  failed  nan: the loss is not a number at step 40",
    ]
    task = bar.progress.tasks[0]
    assert (task.description, task.completed, task.total) == ("monday", 2, 4)
    assert "running 1  waiting 0  stopped 0  failed 1" in task.fields["note"]
    # 40 steps each of the control and of two trials.
    assert "saved 120 steps" in task.fields["note"]
    assert task.fields["note"].endswith("best 001-snip 0.9500")


def test_it_looks_for_the_best_only_now_and_then_until_the_last_trial(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, trials=2)
    bar = SearchBar(Progress(console=Console(file=io.StringIO()), disable=True))
    told.trial("snip", 0.9, 0.95)
    bar(told.records, None)
    told.running("snip", 0.5)
    bar(told.records, None)
    assert "running 0" in bar.progress.tasks[0].fields["note"]
    told.trial("snip", 0.8, 0.96)
    bar(told.records, None)
    assert bar.progress.tasks[0].completed == 2
    assert bar.progress.tasks[0].fields["note"].endswith("0.9600")


def test_quiet_has_no_listener() -> None:
    with watching_search(quiet=True) as listener:
        assert listener is None
