"""The progress bar of a run: what it counts, and the lines that it prints where there is no terminal."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from prune_search.cli.progress import Bar, watching
from prune_search.pruning.mask.receipt import LayerReceipt, Receipt
from prune_search.trial.callbacks import Observation, Silent
from prune_search.trial.result import RoundResult


@pytest.fixture
def bar() -> Bar:
    console = Console(file=io.StringIO(), width=120)
    return Bar(Progress(TextColumn("{task.description}"), BarColumn(), console=console, disable=True))


def round_result(number: int, steps: int) -> RoundResult:
    receipt = Receipt(0.9, 0.9, 10, 10, (LayerReceipt("1", 100, 10, 100, 10),))
    return RoundResult(number, receipt, "0" * 64, {"val/accuracy": 0.75, "steps_trained": float(steps)})


def test_steps_of_all_segments_are_counted_against_the_whole(bar: Bar) -> None:
    bar.started("key", 30)
    assert bar.progress.tasks[0].total == 30
    for name in ("train", "retrain"):
        bar.stage(name, 10)
        for step in range(1, 11):
            bar.step(step, 10, torch.tensor(0.5))
    task = bar.progress.tasks[0]
    assert (task.description, task.completed) == ("retrain", 20)
    assert task.fields["note"] == "loss 0.500"


def test_a_segment_that_begins_in_its_middle_counts_what_is_trained_here(bar: Bar) -> None:
    bar.started("key", 30)
    bar.stage("train", 10)
    bar.step(8, 10, torch.tensor(0.5))
    bar.shown = 0.0
    bar.step(10, 10, torch.tensor(0.5))
    assert bar.progress.tasks[0].completed == 3


def test_a_round_is_a_line_where_there_is_no_terminal(bar: Bar) -> None:
    bar.started("key", 30)
    bar.round_done(round_result(1, 20))
    assert bar.progress.tasks[0].completed == 20
    file = bar.console.file
    assert isinstance(file, io.StringIO)
    assert file.getvalue() == "round 1: val/accuracy 0.7500  sparsity 0.9000\n"


def test_the_network_is_measured_at_most_twenty_times_and_the_note_shows_it(bar: Bar) -> None:
    assert list(bar.observe_at(30, 10, 0)) == [0, 10, 20]
    assert len(bar.observe_at(100_000, 10, 0)) <= 21
    bar.observed(Observation(1, 10, 0, 10, {"val/accuracy": 0.5}, 0.25))
    assert bar.note == "  val/accuracy 0.5000  sparsity 0.2500"


def test_quiet_is_silent() -> None:
    with watching(quiet=True) as sink:
        assert isinstance(sink, Silent)
