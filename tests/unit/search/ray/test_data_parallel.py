"""How the attempt of several workers ended, as its leader wrote it down; the workers themselves need Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from made_search import make_definition

from prune_search.ledger.progress import Progress
from prune_search.ledger.records import TRIALS, Recorder, read_trial
from prune_search.recipe.search_block import WorkersAsked
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ray.data_parallel import _elastic, _note_memory, _word_of
from prune_search.search.ray.worker import TrialJob


def test_the_records_say_how_the_attempt_ended(tmp_path: Path) -> None:
    folder = make_definition(tmp_path, "monday")
    job = TrialJob(str(folder), "000001", {}, {}, LaunchOptions(storage=str(tmp_path)))
    recorder = Recorder(folder, "000001", 1)
    recorder.write("proposed", {"recipe": {}, "number": 1})
    assert _word_of(job, 0) is None
    recorder.write("started", {"host": "here", "pid": 1, "node": ""})
    # Begun, and nothing said: a worker was lost.
    assert _word_of(job, 0) is None
    recorder.progress(Progress(1, oom=True))
    assert _word_of(job, 0) == "oom"
    recorder.progress(Progress(1, lacking=("ab" * 32, 3)))
    assert _word_of(job, 0) == "lacking"
    # An attempt before this one says nothing of it.
    assert _word_of(job, 1) is None
    spent = {"steps_trained": 1, "steps_saved": 0, "seconds": 1.0}
    recorder.write("ended", {"status": "stopped", "result": None, "error": None, **spent})
    assert _word_of(job, 1) == "stopped"


def test_the_device_of_another_worker_that_is_too_small_is_written_down(tmp_path: Path) -> None:
    folder = make_definition(tmp_path, "tuesday")
    job = TrialJob(str(folder), "000001", {}, {}, LaunchOptions(storage=str(tmp_path)))
    recorder = Recorder(folder, "000001", 1)
    recorder.write("proposed", {"recipe": {}, "number": 1})
    _note_memory(job, 0)
    assert _word_of(job, 0) is None
    recorder.write("started", {"host": "here", "pid": 1, "node": ""})
    recorder.progress(Progress(7))
    _note_memory(job, 0)
    assert _word_of(job, 0) == "oom"
    assert read_trial(folder / TRIALS / job.trial).progress[1] == Progress(7, oom=True)
    _note_memory(replace(job, alone=True), 0)
    assert _word_of(job, 0) == "failed"
    ended = read_trial(folder / TRIALS / job.trial).ended
    assert ended is not None
    assert ended.data["error"]["kind"] == "oom"


def test_ray_is_asked_for_a_range_of_workers_or_for_a_number() -> None:
    assert _elastic(WorkersAsked(2, 2)) == {"num_workers": 2}
    assert _elastic(WorkersAsked(2, 8))["num_workers"] == (2, 8)
