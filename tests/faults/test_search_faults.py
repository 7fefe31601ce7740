"""Searches that are killed, disturbed, launched twice or edited: rows 1, 3, 9, 10 and 16 of the fault table."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Typed
from real_mlflow import MLFLOW_WARNINGS, kept_runs
from real_search import (
    HANG,
    SMALL,
    Started,
    alive,
    attempts,
    command_of,
    descendants,
    environment,
    outcomes,
    troubles,
    wait_for,
)

import prune_search
from prune_search import Options, Where
from prune_search.api.outcome import Outcome
from prune_search.ledger.records import SearchRecords, TrialRecords, read_search, search_folder
from prune_search.ledger.tracking_uri import default_uri
from prune_search.recipe.problems import UserError

# Slow: real searches are killed here, and on a busy machine the moments of the kills drift.
pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults, pytest.mark.usefixtures("known")]

# Some seconds of training for each trial, so that it can be hit.
LONG = """\
# prune-search launch long.yaml
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 100ep, batch: 128, optimizer: {name: sgd, lr: 0.05, momentum: 0.9}}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.95}}
any:
- preset: random
- preset: snip
- preset: lottery-ticket
  rounds: 2
search: {trials: 50, concurrency: 2, reproducible: true, seed: 1}
"""
# On a busy machine the moment of a kill drifts: the simulated kills are exact, and run always.
KILLS = [pytest.param(seed, marks=pytest.mark.long) for seed in range(6)]


@pytest.fixture(scope="module", autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs, and the criteria that make trouble are known."""
    with troubles():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the searches of this module lie that begin with nothing stored; one MLflow for all."""
    return tmp_path_factory.mktemp("faults")


def launch(home: Path, text: str, name: str, storage: Path, heartbeat_s: float = 300.0, **sets: Any) -> Outcome:
    """Write a space file, and search it in this process."""
    file = home / f"{name}.yaml"
    file.write_text(text)
    options = Options(name, tracking_uri=default_uri(home), heartbeat_s=heartbeat_s)
    values = {key.replace("__", "."): value for key, value in sets.items()}
    return prune_search.launch(file, set=values, where=Where(storage=storage), options=options)


@pytest.fixture(scope="module")
def unbroken(home: Path) -> SearchRecords:
    """The search of `LONG`, left in peace."""
    return launch(home, LONG, "unbroken", home / "unbroken", search__trials=5).records


def check_mlflow(records: SearchRecords) -> None:
    """Every trial is one run, none is running, and no value was logged twice."""
    from mlflow import MlflowClient

    definition = records.definition
    runs = kept_runs(MlflowClient(records.tracking_uri), definition["experiment"], definition["id"])
    assert sorted(run.key for run in runs) == sorted(["", *records.trials])
    assert {run.status for run in runs} == {"FINISHED"}
    for run in runs:
        places = [(name, step) for name, step, _, _ in run.rows]
        assert len(places) == len(set(places))


@pytest.mark.parametrize("seed", KILLS)
def test_a_killed_search_goes_on_as_if_it_had_not_been(
    home: Path, trouble: Path, tmp_path: Path, unbroken: SearchRecords, seed: int
) -> None:
    """Row 1: SIGKILL of the driver at some instant of the training."""
    draw = random.Random(seed)
    (home / "long.yaml").write_text(LONG)
    started = Started.of(
        home, trouble, tmp_path, "long", "launch", "long.yaml", "--trials", "5", "--tracking-uri", default_uri(home)
    )
    started.wait_for_attempts(draw.randint(2, 6))
    time.sleep(draw.uniform(0, 0.5))
    started.family |= descendants(started.process.pid)
    # Two helpers of Ray, which do nothing without it, take a minute to find out.
    agents = {pid for pid in started.family if "Agent" in command_of(pid)}
    started.process.kill()
    started.said()
    if seed % 2 == 0:
        # Nobody has to end what it had started. With an odd seed they still work while the search goes on.
        wait_for(lambda: not any(alive(pid) for pid in started.family - agents), 60)
    assert not (started.folder / "ended.json").exists()
    outcome = prune_search.resume("long", where=Where(storage=tmp_path))
    assert outcomes(outcome.records) == outcomes(unbroken)
    assert outcome.undelivered == 0
    check_mlflow(outcome.records)


def in_a_while(what: Callable[[], None]) -> threading.Thread:
    """Do something in a thread, while the search runs."""
    thread = threading.Thread(target=what, daemon=True)
    thread.start()
    return thread


# A busy machine takes seconds for a step.
HEARTBEAT_S = 8.0
HANGING = f"""\
{SMALL}
mask: {{at: end, sparsity: 0.8, criterion: {{name: hanging, number: {{hole: choice, of: [0, 1, 2, 3]}}}}}}
weights: {{at: end}}
retrain: {{steps: 1ep, clock: {{hold: 0.1}}}}
search: {{sampler: grid, trials: 4, concurrency: 2, controls: false, max_failures: 1}}
"""


# Minutes on a busy machine: each worker that ends takes a new one's start.
@pytest.mark.long
def test_a_trial_that_dies_or_hangs_is_tried_again_and_harms_no_other(
    home: Path, trouble: Path, tmp_path: Path
) -> None:
    """Row 3: 0 is left in peace, 1 is killed once, 2 each time, and 3 makes no step until it is killed for that."""
    folder = search_folder(tmp_path, "hanging")
    hangs = {number: trouble / f"{HANG}{number}" for number in (1, 2, 3)}

    def trial(number: int) -> TrialRecords | None:
        with contextlib.suppress(UserError):
            found = read_search(folder).numbered()
            return next((one for one in found if one.recipe["mask"]["criterion"]["number"] == number), None)
        return None

    def attempt(number: int, count: int) -> int:
        """The process of an attempt, once it is there."""

        def look() -> int | None:
            found = trial(number)
            begun = found is not None and len(found.attempts) >= count
            return int(found.attempts[count - 1].data["pid"]) if begun and found is not None else None

        return int(wait_for(look, 600))

    def kill(number: int, times: int) -> None:
        for count in range(1, times + 1):
            pid = attempt(number, count)
            if count == times:
                hangs[number].unlink()
            os.kill(pid, signal.SIGKILL)

    def free() -> None:
        attempt(3, 2)
        hangs[3].unlink()

    for file in hangs.values():
        file.touch()
    try:
        threads = [in_a_while(lambda: kill(1, 1)), in_a_while(lambda: kill(2, 2)), in_a_while(free)]
        outcome = launch(home, HANGING, "hanging", tmp_path, heartbeat_s=HEARTBEAT_S)
        for thread in threads:
            thread.join(timeout=10)
    finally:
        for file in hangs.values():
            file.unlink(missing_ok=True)
    assert outcome.as_data()["trials"] == {"completed": 3, "stopped": 0, "failed": 1, "duplicates": 0}
    ended = [trial(number) for number in range(4)]
    assert [len(one.attempts) for one in ended if one is not None] == [1, 2, 2, 2]
    lost = ended[2]
    assert lost is not None
    assert lost.ended is not None
    assert lost.status == "failed"
    assert lost.ended.data["error"]["kind"] == "lost"
    assert "\n" not in lost.ended.data["error"]["message"]
    hung = ended[3]
    assert hung is not None
    # Within two heartbeats, and the start of the new process, which takes long on a busy machine.
    assert hung.attempts[1].time - hung.attempts[0].time < 2 * HEARTBEAT_S + 60.0


def test_a_search_is_held_by_one_process_and_can_be_asked_to_end(
    home: Path, tmp_path: Path, unbroken: SearchRecords, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 9 and 16, in this process: SIGTERM, and it goes on from the stored states."""
    monkeypatch.setenv("PRUNE_SEARCH_STORAGE", str(tmp_path))
    (home / "long.yaml").write_text(LONG)
    folder = search_folder(tmp_path, "long")
    others: list[str] = []

    def end() -> None:
        wait_for(lambda: attempts(folder) >= 2)
        try:
            prune_search.launch(home / "long.yaml", where=Where(storage=tmp_path))
        except UserError as error:
            others.append(str(error))
        os.kill(os.getpid(), signal.SIGTERM)

    in_a_while(end)
    words = ("launch", str(home / "long.yaml"), "--trials", "5", "--tracking-uri", default_uri(home), "--json")
    said = typed(*words)
    assert said.code == 143
    assert "prune-search resume long" in said.err
    assert json.loads(said.out)["name"] == "long"
    assert [f"held by process {os.getpid()} on " in other for other in others] == [True]
    said = typed("resume", "long", "--json")
    assert said.code == 0
    data = json.loads(said.out)
    assert data["trials"]["completed"] == 5
    # Trainings were broken off, and not begun anew.
    assert data["steps_saved"] > 0
    assert outcomes(read_search(folder)) == outcomes(unbroken)
    check_mlflow(read_search(folder))


def test_the_lease_of_a_process_that_is_gone_is_taken_over(tmp_path: Path) -> None:
    """Row 9."""
    from prune_search.storage.lease import Lease, read_holder

    code = (
        "import sys, time; from pathlib import Path; from prune_search.storage.lease import Lease\n"
        "Lease(Path(sys.argv[1]), lambda: None).__enter__(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"held by process {process.pid}"), Lease(tmp_path, lambda: None):
        pass
    process.kill()
    process.communicate()
    with Lease(tmp_path, lambda: None):
        holder = read_holder(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.alive()) == (os.getpid(), True)
    assert read_holder(tmp_path) is None


def test_an_edited_space_is_not_resumed_but_forked(home: Path, unbroken: SearchRecords, typed: Typed) -> None:
    """Row 10."""
    file, storage = home / "unbroken.yaml", str(home / "unbroken")
    file.write_text(LONG.replace("rounds: 2", "rounds: 3").replace("seed: 1}", "seed: 1, controls: false}"))
    try:
        said = typed("resume", "unbroken", "--storage", storage)
        assert (said.code, said.out) == (2, "")
        assert "(any[2].rounds: 2 became 3; search.controls: False was added)" in said.err
        assert "--fork" in said.err
        said = typed("resume", "unbroken", "--fork", "--storage", storage, "--json")
    finally:
        file.write_text(LONG)
    assert said.code == 0
    data = json.loads(said.out)
    assert data["name"] == "unbroken-fork"
    # What was typed beside the file holds for the fork too.
    assert data["trials"]["completed"] == 5
    assert data["steps_saved"] >= 900
    assert len(unbroken.numbered()) == 5


@pytest.mark.parametrize("by", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_run_that_is_asked_to_end_goes_on_from_its_stored_step(
    tmp_path: Path, trouble: Path, typed: Typed, by: signal.Signals
) -> None:
    """Row 16, for a single recipe."""
    words = ["run", "magnitude-after-training", "--set", "train.steps=400ep", "--storage", str(tmp_path), "--json"]
    words += ["--set", "retrain.steps=1ep", "--set", "train.batch=128"]
    command = [sys.executable, "-m", "prune_search", *words]
    process = subprocess.Popen(
        command, env=environment(trouble), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    # Parts of the training are stored on the way.
    wait_for(lambda: process.poll() is not None or list(tmp_path.glob("vertices/*/*/step-*")))
    process.send_signal(by)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + by, "")
    assert "the training state is stored" in err
    said = typed(*words)
    assert said.code == 0
    found = json.loads(said.out)
    assert 0 < found["steps_trained"] < 3609
    assert found["steps_trained"] + found["steps_reused"] == 3609


@pytest.mark.long
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_launch_that_is_asked_to_end_stores_its_states(
    home: Path, trouble: Path, tmp_path: Path, unbroken: SearchRecords, by: signal.Signals
) -> None:
    """Row 16, with Ray in the same process group as a terminal has it."""
    (home / "long.yaml").write_text(LONG)
    started = Started.of(
        home,
        trouble,
        tmp_path,
        "long",
        "launch",
        "long.yaml",
        "--trials",
        "5",
        "--tracking-uri",
        default_uri(home),
        "--json",
    )
    started.wait_for_attempts(3)
    time.sleep(0.3)
    begun = time.monotonic()
    os.killpg(started.process.pid, by) if by is signal.SIGINT else started.process.send_signal(by)
    said = started.said()
    assert said.code == 128 + by
    assert "prune-search resume long" in said.err
    assert time.monotonic() - begun < 30
    wait_for(lambda: not any(alive(pid) for pid in started.family), 30)
    outcome = prune_search.resume("long", where=Where(storage=tmp_path))
    assert outcomes(outcome.records) == outcomes(unbroken)
    assert outcome.as_data()["steps_saved"] > 0
    check_mlflow(outcome.records)


@pytest.mark.long
def test_of_two_that_are_launched_at_once_one_runs(home: Path, trouble: Path, tmp_path: Path) -> None:
    """Row 9."""
    (home / "long.yaml").write_text(LONG)
    words = ("launch", "long.yaml", "--trials", "1", "--tracking-uri", default_uri(home))
    started = [Started.of(home, trouble, tmp_path, "long", *words) for _ in range(2)]
    ended = sorted((one.said() for one in started), key=lambda said: said.code)
    assert [said.code for said in ended] == [0, 2]
    assert "held by process" in ended[1].err
    records = read_search(started[0].folder)
    assert all(len(trial.attempts) == 1 for trial in records.numbered())
