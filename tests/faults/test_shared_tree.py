"""Several workers need the same segment of the shared tree at once: row 11 of the fault table."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS
from real_search import troubles, wait_for

import prune_search
from prune_search import Options, Where
from prune_search.api.outcome import Outcome
from prune_search.ledger.account import total
from prune_search.ledger.records import SearchRecords, read_search
from prune_search.ledger.tracking_uri import default_uri

pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults, pytest.mark.usefixtures("known")]

# Trials of one chain, all at once: each needs all that the shorter ones train. Eight of them are run by hand: on two
# cores most of the time goes into the starts of their processes.
STEPS, OFTEN = 40, 4
ROUNDS = [OFTEN, pytest.param(8, marks=pytest.mark.long)]
CHAIN = """\
# prune-search launch chain.yaml
preset: lottery-ticket
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: STEPSep, batch: 128, optimizer: {name: sgd, lr: 0.05, momentum: 0.9}}
rounds: {hole: int, low: 1, high: ROUNDS}
search: {sampler: grid, trials: ROUNDS, concurrency: ROUNDS, cpus_per_trial: 0.25, controls: false, max_failures: 50}
"""


def distinct(rounds: int) -> int:
    """The steps that such a chain has once."""
    return STEPS * 9 * (1 + rounds)


@pytest.fixture(scope="module", autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs."""
    with troubles():
        yield


def launch(home: Path, name: str, storage: Path, rounds: int) -> Outcome:
    file = home / f"{name}.yaml"
    file.write_text(CHAIN.replace("STEPS", str(STEPS)).replace("ROUNDS", str(rounds)))
    return prune_search.launch(file, where=Where(storage=storage), options=Options(name, default_uri(home)))


def found(records: SearchRecords) -> list[tuple[str, str]]:
    """Mask and weights of every trial."""
    return [(trial.result["mask_sha256"], trial.result["weights_sha256"]) for trial in records.numbered()]


@pytest.fixture(scope="module", params=ROUNDS, ids=lambda rounds: f"{rounds} trials")
def unbroken(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Outcome:
    """The search as nobody disturbs it."""
    home = tmp_path_factory.mktemp("unbroken")
    return launch(home, "unbroken", home / "storage", request.param)


def rounds_of(search: Outcome) -> int:
    """How many trials its chain has."""
    return len(search.records.numbered())


def test_trials_at_once_on_two_cpus_train_one_chain_once(unbroken: Outcome) -> None:
    data, rounds = unbroken.as_data(), rounds_of(unbroken)
    assert rounds in (OFTEN, 8)
    assert data["trials"]["completed"] == rounds
    assert data["steps_trained"] == distinct(rounds)
    assert data["steps_replayed"] == data["steps_repeated"] == data["steps_abandoned"] == 0
    assert data["steps_trained"] + data["steps_saved"] == sum(distinct(r) for r in range(1, rounds + 1))


class Killer(threading.Thread):
    """Kills whoever builds, so many times, at drawn instants.

    Attributes:
        killed: process ids.
    """

    def __init__(self, search: Path, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.search, self.kills, self.draw = search, kills, random.Random(seed)
        self.killed: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        while len(self.killed) < self.kills and not self.over.is_set():
            time.sleep(self.draw.uniform(0.05, 0.6))
            for pid in self._builders():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(pid)
                    break

    def _builders(self) -> list[int]:
        """Processes that train now: their progress is being written."""
        with contextlib.suppress(Exception):
            trials = read_search(self.search).trials.values()
            return [
                int(trial.attempts[-1].data["pid"])
                for trial in trials
                if trial.ended is None and trial.attempts and trial.progress.get(trial.attempts[-1].attempt)
                if int(trial.attempts[-1].data["pid"]) not in self.killed
            ]
        return []


@pytest.mark.parametrize(
    ("kills", "seed"), [(3, 0), pytest.param(10, 1, marks=pytest.mark.long)], ids=["3 kills", "10 kills"]
)
def test_a_builder_that_is_killed_is_taken_over(unbroken: Outcome, tmp_path: Path, kills: int, seed: int) -> None:
    name, rounds = f"killed-{kills}", rounds_of(unbroken)
    killer = Killer(tmp_path / "storage" / "searches" / name, kills, seed)
    killer.start()
    outcome = launch(tmp_path, name, tmp_path / "storage", rounds)
    killer.over.set()
    killer.join()
    assert killer.killed
    assert outcome.as_data()["trials"]["completed"] == rounds
    assert found(outcome.records) == found(unbroken.records)
    # A segment that a killed process had not stored is trained again, and counted; nothing else is.
    account = total(outcome.records.trials.values())
    lost = account.repeated + account.abandoned
    assert distinct(rounds) - kills * 9 * STEPS <= account.trained - lost <= distinct(rounds)
    assert account.trained <= distinct(rounds) + kills * STEPS * 9


@pytest.mark.long
def test_two_searches_on_one_storage_share_what_they_train_at_the_same_time(tmp_path: Path, unbroken: Outcome) -> None:
    storage, outcomes = tmp_path / "storage", {}

    def second() -> None:
        wait_for(lambda: (storage / "searches" / "first" / "trials").exists())
        outcomes["second"] = launch(tmp_path, "second", storage, rounds_of(unbroken))

    thread = threading.Thread(target=second)
    thread.start()
    first = launch(tmp_path, "first", storage, rounds_of(unbroken))
    thread.join()
    assert found(first.records) == found(unbroken.records) == found(outcomes["second"].records)
    trained = first.as_data()["steps_trained"] + outcomes["second"].as_data()["steps_trained"]
    assert trained == distinct(rounds_of(unbroken))
