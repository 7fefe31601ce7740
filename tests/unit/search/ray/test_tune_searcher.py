"""What Tune is told and asked: the next trial of the ledger, and when a search that was asked to end may end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_search import make_definition
from ray.tune.search import Searcher

from prune_search.ledger.records import Recorder, SearchRecords, TrialRecords
from prune_search.recipe import strict_yaml
from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.next_trial import NextTrial
from prune_search.search.ray.tune_searcher import Impatience, LedgerSearcher
from prune_search.search.ray.worker import TrialJob

SPACE = """\
task: {data: digits, model: mlp}
preset: snip
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.95}}
search: {sampler: tpe, trials: 2, concurrency: 2, controls: false, seed: 1}
"""


class Search:
    """A search as Tune sees it."""

    def __init__(self, storage: Path) -> None:
        self.folder = make_definition(storage, "monday", SPACE)
        self.asked = False
        self.told: list[tuple[str | None, str]] = []
        space = read_space(strict_yaml.load(SPACE), "monday")
        self.next_trial = NextTrial.open(self.folder, space, known_epoch, lambda: self.asked)
        self.searcher = LedgerSearcher(self.next_trial, self.job, self.listen)

    def job(self, trial: TrialRecords) -> TrialJob:
        search = dict(self.next_trial.search)
        return TrialJob(str(self.folder), trial.id, trial.recipe, search, LaunchOptions(storage=""))

    def listen(self, records: SearchRecords, trial: TrialRecords | None) -> None:
        self.told.append((None, "started") if trial is None else (trial.id, trial.status))

    def write(self, trial: str, *kinds: str) -> None:
        """What a worker writes."""
        recorder = Recorder(self.folder, trial, 1)
        if "started" in kinds:
            recorder.write("started", {"host": "here", "pid": 1, "node": ""})
        if "ended" in kinds:
            error = {"kind": "nan", "message": "the loss is nan"}
            spent = {"steps_trained": 1, "steps_saved": 0, "seconds": 1.0}
            recorder.write("ended", {"status": "failed", "result": None, "error": error, **spent})


def test_trials_are_handed_out_until_there_are_no_more(tmp_path: Path) -> None:
    search = Search(tmp_path)
    configs: list[Any] = [search.searcher.suggest(name) for name in ("a", "b")]
    assert [TrialJob.of_config(config).trial for config in configs] == ["000001", "000002"]
    search.write("000001", "started", "ended")
    search.searcher.on_trial_complete("a")
    search.searcher.on_trial_complete("b", error=True)
    assert search.told == [(None, "started"), (None, "started"), ("000001", "failed"), ("000002", "failed")]
    lost = search.next_trial.records.trials["000002"].ended
    assert lost is not None
    assert lost.data["error"]["message"] == "the trial's process died more often than max_failures allows"
    assert search.searcher.suggest("c") == Searcher.FINISHED
    # Of what it has not handed out it knows nothing.
    search.searcher.on_trial_complete("c")


def test_an_error_here_ends_the_search_and_is_kept_for_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(tmp_path)

    def full() -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(search.next_trial, "next", full)
    assert search.searcher.suggest("a") == Searcher.FINISHED
    assert str(search.searcher.error) == "the disk is full"
    monkeypatch.undo()
    assert search.searcher.suggest("b") == Searcher.FINISHED


def test_a_search_that_was_asked_to_end_waits_for_trials_that_have_begun(tmp_path: Path) -> None:
    search = Search(tmp_path)
    impatience = Impatience(search.searcher, lambda: search.asked)
    search.searcher.suggest("a")
    assert not impatience.stop_all()
    search.asked = True
    assert impatience.stop_all()
    search.write("000001", "started")
    assert not impatience.stop_all()
    assert not impatience("a", {})


def test_tune_stores_nothing_of_it(tmp_path: Path) -> None:
    search = Search(tmp_path)
    assert search.searcher.__getstate__() == Impatience(search.searcher, lambda: False).__getstate__() == {}
