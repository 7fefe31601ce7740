"""What MLflow should hold, computed from records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_search import make_definition, result_of

from prune_search.ledger.records import Recorder, SearchRecords, read_search
from prune_search.ledger.state import state_of
from prune_search.recipe import strict_yaml
from prune_search.report.compare import compare_data
from prune_search.tracking.project import log_scaled, project, project_trial
from prune_search.tracking.run_content import FAILED, FINISHED, KILLED, RUNNING, DataSet, RunView

TEXT = """\
train: {optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
any:
- {preset: snip, mask: {sparsity: {hole: uniform, low: 0.5, high: 0.98}}}
- {preset: lottery-ticket, rounds: {hole: int, low: 1, high: 8, log: true}}
search: {trials: 2, objectives: [maximize val/accuracy, maximize sparsity]}
"""
Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time at which records are written."""
    now = SimpleNamespace(value=1000.0)
    monkeypatch.setattr("prune_search.ledger.records.time", SimpleNamespace(time=lambda: now.value))

    def set_to(value: float) -> None:
        now.value = value

    return set_to


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_definition(tmp_path, "small", TEXT, created=900.0)


def propose(folder: Path, trial: str, **changes: Any) -> Recorder:
    proposed = {
        "number": 1,
        "name": "001-snip-s0.90",
        "recipe": {"schema": 1, "task": {"data": "digits", "model": "mlp"}},
        "paradigm": "snip",
        "params": {"paradigm": "snip", "mask.sparsity": 0.9, "train.optimizer.lr": 0.1},
        "option": "snip",
        "digest": "d",
        "duplicate_of": None,
        "sampler": None,
    }
    recorder = Recorder(folder, trial)
    recorder.write("proposed", {**proposed, **changes})
    return recorder


def measure(recorder: Recorder, number: int, step: int | None, steps: int, accuracy: float | None) -> None:
    data = {"round": number, "step": step, "steps_trained": steps, "metrics": {"val/accuracy": accuracy}}
    recorder.write("measured", {**data, "sparsity": 0.9})


def end(recorder: Recorder, status: str = "completed", metrics: Mapping[str, Any] | None = None, **data: Any) -> None:
    recipe = {"schema": 1, "task": {"data": "digits", "model": "mlp", "seed": recorder.trial}}
    result = None if metrics is None else result_of(recipe, metrics, "snip", 0.9)
    ended = {"status": status, "result": result, "error": None, "steps_trained": 60, "steps_saved": 40, "seconds": 1.0}
    recorder.write("ended", {**ended, **data})


def view(folder: Path, key: str, state: Any = "running") -> RunView:
    return {run.key: run for run in project(read_search(folder), state)}[key]


def curve(run: RunView, name: str) -> list[tuple[int, float, int]]:
    return [(point.step, point.value, point.time_ms) for point in run.content.points if point.name == name]


def test_a_completed_trial_has_everything_at_its_training_step_and_time(folder: Path, clock: Clock) -> None:
    recorder = propose(folder, "000001")
    clock(1001.0)
    recorder.write("started", {"host": "h", "pid": 1, "node": ""})
    clock(1002.5)
    measure(recorder, 1, 20, 50, 0.5)
    clock(1003.25)
    measure(recorder, 1, None, 100, 0.7)
    clock(1004.0)
    metrics = {"val/accuracy": 0.7, "sparsity": 0.9, "steps_trained": 100.0, "test/accuracy": 0.69}
    end(recorder, metrics=metrics)
    run = view(folder, "000001")
    result = read_search(folder).trials["000001"].result

    assert (run.name, run.status, run.times.start_ms, run.times.end_ms) == (
        "001-snip-s0.90",
        FINISHED,
        1_001_000,
        1_004_000,
    )
    assert run.content.params == {
        "paradigm": "snip",
        "mask.sparsity": "0.9",
        "train.optimizer.lr": "0.1",
        "log10 train.optimizer.lr": "-1",
    }
    # What was measured at the end of the round stays as it was measured, whatever the result says again.
    assert curve(run, "val/accuracy") == [(50, 0.5, 1_002_500), (100, 0.7, 1_003_250)]
    assert curve(run, "test/accuracy") == [(100, 0.69, 1_004_000)]
    assert curve(run, "sparsity") == [(50, 0.9, 1_002_500), (100, 0.9, 1_003_250)]
    assert curve(run, "steps_saved") == [(100, 40.0, 1_004_000)]
    assert curve(run, "best/val/accuracy") == [(100, 0.7, 1_004_000)]
    assert curve(run, "best/sparsity") == [(100, 0.9, 1_004_000)]
    tags = {name: value for name, value in run.content.tags.items() if name != "mlflow.note.content"}
    assert tags == {
        "search.id": read_search(folder).definition["id"],
        "trial.id": "000001",
        "kind": "trial",
        "front": "pareto",
        "status": "completed",
        "paradigm": "snip",
        "option": "snip",
        "trial.key": result["key"],
        "mask.sha256": result["mask_sha256"],
        "mlflow.source.name": "made_up.yaml",
    }
    assert strict_yaml.load(run.content.artifacts["recipe.yaml"])["task"]["data"] == "digits"
    assert json.loads(run.content.artifacts["receipt.json"])["sparsity"] == {"asked": 0.9, "reached": 0.9}
    assert run.content.data == (DataSet("digits", result["digests"]["data"][:36]),)
    assert len(run.content.data[0].digest) == 36


def test_best_is_the_figure_that_compare_shows(folder: Path) -> None:
    recorder = propose(folder, "000001")
    measure(recorder, 1, None, 100, 0.99)
    measure(recorder, 2, 20, 150, 0.8)
    measure(recorder, 2, None, 200, 0.7)
    end(recorder, metrics={"val/accuracy": 0.7, "sparsity": 0.9, "steps_trained": 200.0})
    assert [value for _, value, _ in curve(view(folder, "000001"), "best/val/accuracy")] == [0.7]
    assert [value for _, value, _ in curve(view(folder, ""), "best/val/accuracy")] == [0.7]
    assert compare_data([read_search(folder)])["rows"][0]["metrics"]["val/accuracy"] == 0.7


def test_a_mask_that_still_grows_sparser_does_not_count_as_sparse(folder: Path) -> None:
    recorder = propose(folder, "000001")
    for step, trained, accuracy in [(-60, 40, 0.99), (0, 100, 0.8), (None, 200, 0.7)]:
        measure(recorder, 1, step, trained, accuracy)
    end(recorder, metrics={"val/accuracy": 0.7, "sparsity": 0.9, "steps_trained": 200.0})
    run = view(folder, "000001")
    assert [step for step, _, _ in curve(run, "sparsity")] == [100, 200]
    assert [step for step, _, _ in curve(run, "val/accuracy")] == [40, 100, 200]


def test_two_measurements_at_one_training_step_are_one_point(folder: Path) -> None:
    recorder = propose(folder, "000001")
    measure(recorder, 1, 50, 100, 0.6)
    measure(recorder, 1, None, 100, 0.7)
    end(recorder, metrics={"val/accuracy": 0.8, "steps_trained": 100.0})
    assert [value for _, value, _ in curve(view(folder, "000001"), "val/accuracy")] == [0.6]


def test_what_is_no_number_is_left_out(folder: Path) -> None:
    recorder = propose(folder, "000001")
    measure(recorder, 1, 20, 50, None)
    end(recorder, metrics={"val/accuracy": None, "steps_trained": 100.0})
    assert curve(view(folder, "000001"), "val/accuracy") == []


@pytest.mark.parametrize(
    ("state", "status", "tag"), [("running", RUNNING, "running"), ("interrupted", KILLED, "interrupted")]
)
def test_a_trial_without_an_end_runs_only_while_its_search_does(
    folder: Path, state: Any, status: str, tag: str
) -> None:
    recorder = propose(folder, "000001")
    recorder.write("started", {"host": "h", "pid": 1, "node": ""})
    run = view(folder, "000001", state)
    assert (run.status, run.content.tags["status"], run.times.end_ms) == (status, tag, None)


def test_a_trial_that_waits_has_no_run_yet(folder: Path) -> None:
    propose(folder, "000001")
    assert [run.key for run in project(read_search(folder))] == [""]


def test_a_stopped_trial_is_finished_and_says_that_it_was_stopped(folder: Path) -> None:
    recorder = propose(folder, "000001")
    measure(recorder, 1, 20, 50, 0.5)
    end(recorder, "stopped")
    run = view(folder, "000001")
    assert (run.status, run.content.tags["status"]) == (FINISHED, "stopped")
    assert curve(run, "best/val/accuracy") == []
    assert "receipt.json" not in run.content.artifacts


def test_a_failed_trial_says_why(folder: Path) -> None:
    recorder = propose(folder, "000001")
    end(recorder, "failed", error={"kind": "nan", "message": "the loss is\nnot a number"})
    run = view(folder, "000001")
    assert (run.status, run.content.tags["status"], run.content.tags["error.kind"]) == (FAILED, "failed", "nan")
    assert "the loss is not a number" in run.content.tags["mlflow.note.content"]


def test_a_duplicate_shows_the_result_that_it_copies(folder: Path) -> None:
    metrics = {"val/accuracy": 0.7, "sparsity": 0.9, "steps_trained": 100.0}
    end(propose(folder, "000001"), metrics=metrics)
    end(propose(folder, "000002", name="002-snip-s0.90", duplicate_of="000001"), metrics=metrics, steps_trained=0)
    run = view(folder, "000002")
    assert "not trained again" in run.content.tags["mlflow.note.content"]
    assert (run.status, run.content.tags["status"], run.content.tags["duplicate_of"]) == (
        FINISHED,
        "duplicate",
        "000001",
    )
    assert [value for _, value, _ in curve(run, "val/accuracy")] == [0.7]
    # The table is sorted by the best figures: it stands below what it repeats.
    assert curve(view(folder, "000001"), "best/val/accuracy")
    assert not curve(run, "best/val/accuracy")


def test_a_duplicate_of_a_failed_trial_failed_too(folder: Path) -> None:
    end(propose(folder, "000001"), "failed", error={"kind": "nan", "message": "nan"})
    end(propose(folder, "000002", duplicate_of="000001"), "failed", error={"kind": "nan", "message": "nan"})
    assert view(folder, "000002").status == FAILED


def test_controls_are_children_by_their_own_names(folder: Path) -> None:
    end(
        propose(folder, "control-dense", name="control-dense", number=0, params={}, option="", paradigm="dense"),
        metrics={"val/accuracy": 0.8, "sparsity": 0.0, "steps_trained": 100.0},
    )
    run = view(folder, "control-dense")
    assert (run.key, run.name, run.content.params) == ("control-dense", "control-dense", {})
    assert "option" not in run.content.tags


def test_log_scaled_holes_are_found_in_the_option_that_was_drawn(folder: Path) -> None:
    definition = read_search(folder).definition
    assert log_scaled(definition, "snip") == {"train.optimizer.lr"}
    assert log_scaled(definition, "lottery-ticket") == {"train.optimizer.lr", "rounds"}


@pytest.mark.parametrize(
    ("value", "twin"),
    [(8, "0.90309"), ("100it", "2"), ("5%", "0.69897"), ("3ep20it", None), ("end", None), (True, None)],
)
def test_a_twin_is_the_logarithm_of_a_number_or_of_a_step_in_its_unit(
    folder: Path, value: Any, twin: str | None
) -> None:
    end(propose(folder, "000001", option="lottery-ticket", params={"rounds": value}), "stopped")
    assert view(folder, "000001").content.params.get("log10 rounds") == twin


def three_trials(folder: Path, clock: Clock) -> SearchRecords:
    clock(1000.0)
    dense = {"val/accuracy": 0.95, "sparsity": 0.0, "steps_trained": 90.0}
    end(propose(folder, "control-dense", name="control-dense", number=0, params={}, option=""), metrics=dense)
    for number, (ends, accuracy, sparsity) in enumerate([(1030.0, 0.9, 0.5), (1010.0, 0.8, 0.9)], start=1):
        clock(ends)
        recorder = propose(folder, f"{number:06d}", name=f"{number:03d}-snip")
        end(recorder, metrics={"val/accuracy": accuracy, "sparsity": sparsity, "steps_trained": 100.0})
    clock(1020.0)
    end(propose(folder, "000003", name="003-snip"), "failed", error={"kind": "nan", "message": "nan"})
    return read_search(folder)


def test_the_parent_sums_up_over_the_trials_in_the_order_of_their_ends(folder: Path, clock: Clock) -> None:
    run = project(three_trials(folder, clock), "running")[0]
    assert (run.key, run.name, run.status, run.times.start_ms) == ("", "small", RUNNING, 900_000)
    # The control ended first, then trial 2, then 3 failed, then 1; the control is not counted, but its steps are.
    times = [1_000_000, 1_010_000, 1_020_000, 1_030_000]
    assert curve(run, "completed") == list(zip([1, 2, 3, 4], [0.0, 1.0, 1.0, 2.0], times, strict=True))
    assert [value for _, value, _ in curve(run, "failed")] == [0.0, 0.0, 1.0, 1.0]
    # Both figures of the best trial, as everywhere.
    assert [value for _, value, _ in curve(run, "best/val/accuracy")] == [0.8, 0.8, 0.9]
    assert [value for _, value, _ in curve(run, "best/sparsity")] == [0.9, 0.9, 0.5]
    assert [value for _, value, _ in curve(run, "steps_trained")] == [60.0, 120.0, 180.0, 240.0]
    assert [value for _, value, _ in curve(run, "steps_saved")] == [40.0, 80.0, 120.0, 160.0]
    assert run.content.params["search.trials"] == "2"
    assert run.content.artifacts["space.yaml"] == TEXT


def test_the_parent_ranks_and_names_the_best_and_what_to_type_next(folder: Path, clock: Clock) -> None:
    run = project(three_trials(folder, clock), "finished")[0]
    board = json.loads(run.content.artifacts["leaderboard.json"])
    assert [(row["rank"], row["name"], row["pareto"]) for row in board["trials"]] == [
        (1, "001-snip", True),
        (2, "002-snip", True),
    ]
    assert [row["name"] for row in board["controls"]] == ["control-dense"]
    note = run.content.tags["mlflow.note.content"].replace("\u00a0", "")
    assert "**Best:** 001-snip, val/accuracy 0.9, sparsity 0.5" in note
    assert "| 001-snip | 0.9 | 0.5 | 100 |" in note
    assert "| control-dense | 0.95 | 0 | 90 |" in note
    assert f"`prune-search export small --storage {folder.parent.parent} --to DIR`" in note
    assert "data: digits" in note
    assert (run.status, run.times.end_ms) == (FINISHED, 1_030_000)


def test_an_interrupted_search_says_how_to_go_on(folder: Path, clock: Clock) -> None:
    run = project(three_trials(folder, clock), "interrupted")[0]
    assert run.status == KILLED
    assert "`prune-search resume small" in run.content.tags["mlflow.note.content"]


def test_constraints_decide_what_is_best(tmp_path: Path, clock: Clock) -> None:
    text = TEXT.replace("sparsity]}", "sparsity], constraints: [val/accuracy >= dense - 10%]}")
    search = three_trials(make_definition(tmp_path, "bounded", text.replace("maximize val/accuracy, ", "")), clock)
    run = project(search, "finished")[0]
    # 0.9 meets 0.95 - 0.1, 0.8 does not, though it is sparser.
    assert [value for _, value, _ in curve(run, "best/sparsity")] == [0.5]
    assert "| 2 (misses a constraint) | 002-snip\u00a0" in run.content.tags["mlflow.note.content"]


def test_a_search_is_finished_when_its_trials_have_ended_or_its_driver_said_so(folder: Path, clock: Clock) -> None:
    end(propose(folder, "000001"), "stopped")
    assert state_of(read_search(folder)) == "interrupted"
    (folder / "ended.json").write_text("{}\n")
    assert state_of(read_search(folder)) == "finished"
    recorder = propose(folder, "000002")
    assert state_of(read_search(folder)) == "interrupted"
    end(recorder, "stopped")
    (folder / "ended.json").unlink()
    assert state_of(read_search(folder)) == "finished"


def test_a_note_fits_into_a_tag_however_long_the_recipe_is(folder: Path, clock: Clock) -> None:
    long = {"schema": 1, "task": {"data": "digits", "model": {f"option{i}": "x" * 50 for i in range(300)}}}
    recorder = propose(folder, "000001", recipe=long)
    end(recorder, metrics={"val/accuracy": 0.7, "sparsity": 0.9, "steps_trained": 100.0})
    note = project(read_search(folder))[0].content.tags["mlflow.note.content"]
    assert len(note) <= 8000
    assert "**Next**" in note


def test_markdown_in_names_stays_text(folder: Path) -> None:
    recorder = propose(folder, "000001", name="001-*bold*|x")
    end(recorder, metrics={"val/accuracy": 0.7, "sparsity": 0.9, "steps_trained": 100.0})
    assert "001-\\*bold\\*\\|x" in project(read_search(folder))[0].content.tags["mlflow.note.content"]


def test_projection_is_the_same_however_often_it_is_made(folder: Path, clock: Clock) -> None:
    search = three_trials(folder, clock)
    assert project(search, "finished") == project(read_search(folder), "finished")
    trial = search.trials["000001"]
    assert project_trial(search, trial) == project_trial(search, trial)


def test_trials_say_whether_they_lie_on_the_front_and_what_comes_later_can_push_them_off(folder: Path) -> None:
    def end(trial: str, accuracy: float, **changes: Any) -> None:
        recorder = propose(folder, trial, **changes)
        metrics = {"val/accuracy": accuracy, "sparsity": 0.9, "steps_trained": 100}
        result = result_of({"trial": trial}, metrics, "snip", 0.9)
        recorder.write("ended", {"status": "completed", "result": result, "error": None, "seconds": 1.0})

    def fronts() -> dict[str, str | None]:
        return {run.key: run.content.tags.get("front") for run in project(read_search(folder))[1:]}

    end("000001", 0.8)
    assert fronts() == {"000001": "pareto"}
    end("000002", 0.9)
    # A repeated recipe lies where the one lies that it repeats; a control lies nowhere.
    end("000003", 0.9, duplicate_of="000002")
    end("control-dense", 0.99)
    assert fronts() == {"000001": "dominated", "000002": "pareto", "000003": "pareto", "control-dense": None}


def test_pictures_beside_the_records_are_artifacts_and_the_note_shows_the_front(folder: Path) -> None:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "pareto.svg").write_text("<svg/>")
    (folder / "pictures" / "notes.txt").write_text("no picture")
    running, over = (project(read_search(folder), state)[0].content for state in ("running", "interrupted"))
    assert "pictures/pareto.svg" not in running.artifacts
    assert over.artifacts["pictures/pareto.svg"] == "<svg/>"
    assert "pictures/notes.txt" not in over.artifacts
    assert "get-artifact?path=pictures%2Fpareto.svg&run_uuid={run}" in over.tags["mlflow.note.content"]
    assert "get-artifact" not in running.tags["mlflow.note.content"]
