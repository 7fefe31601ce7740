"""What a trial reports becomes records, and the ledger is asked only where the rule has something to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prune_search.ledger.ranking import Dense
from prune_search.ledger.records import Recorder, TrialRecords, read_trial, trial_id
from prune_search.recipe.space import read_space
from prune_search.search.ledger_callbacks import MAX_OBSERVATIONS, EarlyStopping, LedgerSink, StoppedError
from prune_search.search.schedulers import Decisions
from prune_search.training.state_store import PausedError, PreemptedError, Steps
from prune_search.trial.callbacks import Observation


class Deciding(Decisions):
    """Stops as it is told, and keeps where it was asked."""

    def __init__(self, answer: bool) -> None:
        super().__init__({})
        self.answer = answer
        self.asked: list[Any] = []

    def stops(self, trial_id: str, maturity: Any, epoch: int, dense: Dense) -> bool:
        self.asked.append(maturity)
        return self.answer


def early_stopping(decisions: Decisions, name: str = "asha") -> EarlyStopping:
    search = {"scheduler": {"name": name, "grace": "2ep", "eta": 2}, "objectives": ["maximize val/accuracy"]}
    scheduler = read_space({"preset": "snip", "search": search}, "a test").search["scheduler"]
    return EarlyStopping(trial_id(1), scheduler, lambda: (decisions, None))


def seen(step: int, accuracy: float = 0.5) -> Observation:
    return Observation(1, step, step, 100 + step, {"val/accuracy": accuracy}, 0.9)


def written(folder: Path) -> TrialRecords:
    return read_trial(folder / "trials" / trial_id(1))


def test_a_network_is_measured_once_an_epoch_but_not_more_often_than_is_worth_it(tmp_path: Path) -> None:
    sink = LedgerSink(Recorder(tmp_path, trial_id(1)), None, 1, Steps())
    assert sorted(sink.observe_at(50, 10, 0)) == [10, 20, 30, 40]
    assert len(sink.observe_at(100_000, 10, 0)) <= MAX_OBSERVATIONS


def test_the_rule_is_asked_at_its_marks_alone_and_what_was_measured_is_written_before(tmp_path: Path) -> None:
    decisions = Deciding(answer=True)
    sink = LedgerSink(Recorder(tmp_path, trial_id(1)), early_stopping(decisions), 1, Steps())
    assert {25, 45} <= set(sink.observe_at(100, 10, 5))
    sink.observed(seen(10))
    assert decisions.asked == []
    with pytest.raises(StoppedError):
        sink.observed(seen(20))
    assert decisions.asked == [(None, 20)]
    assert [record.data["step"] for record in written(tmp_path).measured] == [10, 20]


def test_a_trial_that_is_paused_takes_along_what_was_measured_there(tmp_path: Path) -> None:
    sink = LedgerSink(
        Recorder(tmp_path, trial_id(1)), early_stopping(Deciding(answer=True), "asha-promote"), 1, Steps()
    )
    sink.observe_at(100, 10, 0)
    with pytest.raises(PausedError) as rests:
        sink.observed(seen(20))
    # Training stores its state on this error as on every preemption.
    assert isinstance(rests.value, PreemptedError)
    assert rests.value.at == written(tmp_path).measured[-1].data


def test_a_metric_that_is_no_number_is_written_as_none(tmp_path: Path) -> None:
    LedgerSink(Recorder(tmp_path, trial_id(1)), None, 1, Steps()).observed(seen(10, float("nan")))
    assert written(tmp_path).measured[0].data["metrics"] == {"val/accuracy": None}


def test_the_progress_tells_the_furthest_states_and_what_the_attempt_waits_for(tmp_path: Path) -> None:
    account = Steps(trained=30, stored=25)
    recorder = Recorder(tmp_path, trial_id(1))
    recorder.write("started", {})
    sink = LedgerSink(recorder, None, 1, account)
    sink.reached("train", 20)
    account.trained = 40
    sink.reached("train", 10)
    sink.lacking("ab", 7)
    progress = written(tmp_path).progress[1]
    assert (progress.reached, progress.shared, progress.lacking) == ({"train": 20}, 30, ("ab", 7))
    assert (progress.trained, progress.stored, progress.oom) == (40, 25, False)


def test_of_a_trial_without_a_result_what_it_had_reached_and_not_trained_was_saved(tmp_path: Path) -> None:
    sink = LedgerSink(Recorder(tmp_path, trial_id(1)), None, 1, Steps(trained=30))
    assert sink.steps(None) == {"steps_trained": 30, "steps_saved": 0}
    sink.observed(seen(10))
    assert sink.steps(None) == {"steps_trained": 30, "steps_saved": 80}
