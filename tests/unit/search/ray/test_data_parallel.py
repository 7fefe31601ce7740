"""How the attempt of several workers ended, as its leader wrote it down; the workers themselves need Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from made_search import make_definition

from prune_search.ledger.progress import Progress
from prune_search.ledger.records import TRIALS, Recorder, read_trial
from prune_search.recipe.search_block import WorkersAsked
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ray.data_parallel import _note_memory, _word_of, fitting
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


def test_a_worker_needs_a_node_with_room_for_it() -> None:
    needs = {"CPU": 2.0, "GPU": 1.0}
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 4.0}, {"CPU": 64.0}]
    assert fitting(needs, nodes, {"CPU": 75.0, "GPU": 6.0}) == 3
    assert fitting(needs, nodes, {"CPU": 75.0, "GPU": 2.0}) == 2
    assert fitting(needs, nodes, {"CPU": 1.0, "GPU": 6.0}) == 0
    assert [WorkersAsked(2, 4).fitting(room) for room in (0, 2, 3, 9)] == [2, 2, 3, 4]
