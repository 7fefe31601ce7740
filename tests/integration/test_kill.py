"""A trial that is killed, at whatever instant, and run again ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

Blocks = dict[str, Any]
Line = dict[str, Any]
SetupOf = Callable[[Mapping[str, Any]], Any]

# Imports what a run needs, then forks a process for every run that it is told of: a run can be killed ten times in a
# second. A run kills itself at the step that it is told, or a clock does.
SERVER = """
import json, os, signal, sys, threading, traceback
from pathlib import Path
import torch
from prune_search.recipe.space import read_space
from prune_search.training import segment
from prune_search.trial.setup import prepare
from prune_search.trial.run import run_trial
from prune_search.trial.callbacks import Silent

class Killer(Silent):
    def __init__(self, kill):
        self.kill = kill
    def stage(self, name, total):
        self.name = name
    def step(self, step, total, loss):
        if [self.name, step] == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

def run(told):
    segment.RECOVERY_EVERY_S = told["recovery"]
    setup = prepare(read_space(told["recipe"], "a test").only_recipe(), torch.device("cpu"))
    folder = Path(told["folder"]) if told["folder"] else None
    if told["kill_after"] is not None:
        threading.Timer(told["kill_after"], lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    result = run_trial(setup, folder, Killer(told["kill"]))
    return {
        "mask": result.masks.sha256,
        "weights": result.weights_sha256,
        "metrics": dict(result.metrics),
        "steps": result.steps,
    }

torch.set_num_threads(1)
run(json.loads(sys.stdin.readline()))  # what torch imports at its first training step is imported once
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    told = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(run(told)).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps({"code": code, "found": json.loads(said) if said else None}), flush=True)
"""

TASK: Blocks = {"model": {"name": "small-conv", "channels": [4, 6]}, "seed": 11}
TRAIN: Blocks = {"steps": "30it", "augment": {"name": "crop-flip", "pad": 1}}
GROWING: Blocks = {"name": "growing-penalty", "step": 0.3, "every": "4it", "ceiling": 1.0, "stabilise": "5it"}

RISING: Blocks = {"name": "rising-penalty", "step": 0.02, "every": "4it", "until": 0.05}

GREG: Blocks = {
    "preset": "greg-2",
    "task": TASK,
    "train": TRAIN,
    "mask": {"prepare": RISING},
    "weights": {"at": "prepared", "transform": [GROWING]},
    "retrain": {"steps": "20it", "schedule": "constant"},
}
GRADUAL: Blocks = {
    "preset": "gradual-magnitude",
    "task": TASK,
    "train": TRAIN,
    "retrain": {"until": "end", "dynamics": {"name": "gradual", "from": "3it", "until": "22it", "every": "4it"}},
}


def moving(preset: str, **options: Any) -> Blocks:
    """A preset whose mask moves every few steps."""
    dynamics = {"name": preset, **options}
    return {"preset": preset, "task": TASK, "train": TRAIN, "retrain": {"until": "end", "dynamics": dynamics}}


ADAM_IN_ROUNDS: Blocks = {
    "preset": "late-rewinding",
    "task": TASK,
    "train": {**TRAIN, "optimizer": {"name": "adam", "lr": 0.01}},
    "weights": {"at": "4it"},
    "rounds": 2,
}
WARM: Blocks = {"preset": "snip", "train": {"steps": "1it"}}
# Stages and their steps: where a kill can fall.
STAGES = {
    "greg": (GREG, {"train": 30, "prepare": 12, "growing-penalty": 21, "retrain": 20}),
    "gradual": (GRADUAL, {"retrain": 30}),
    "rounds": (ADAM_IN_ROUNDS, {"train": 30, "retrain (round 1)": 26, "retrain (round 2)": 26}),
}
# A scope that prunes in ten episodes of three steps each, and learns from every two of them.
EPISODES: Blocks = {
    "task": TASK,
    "train": TRAIN,
    "mask": {
        "at": "end",
        "criterion": "magnitude",
        "scope": {"name": "ppo-lagrangian", "episodes": 10, "reward_steps": "3it", "n_steps": 6},
    },
    "weights": {"at": "end"},
    "retrain": {"steps": "6it", "clock": {"hold": 0.01}},
}
# Masks that move or are searched for, killed in one way only.
MOVING = {
    "rigl": (moving("rigl", every="4it", init="normal"), {"retrain": 30}),
    "snfs": (moving("snfs", every="4it"), {"retrain": 30}),
    "deepr": (moving("deepr", temperature=1.0e-4), {"retrain": 30}),
    "episodes": (EPISODES, {"ppo-lagrangian": 30, "retrain": 6}),
    "gibbs": (moving("gibbs", beta={"until": "20it", "every": "2it"}), {"retrain": 30}),
}


SEEDS = [
    0,
    pytest.param(1, marks=pytest.mark.slow),
    *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6)),
]


class Server:
    """A process that forks one process per run."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._ask(self._told(WARM, None)) == "ready"

    def _ask(self, told: Line) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    @staticmethod
    def _told(recipe: Blocks, folder: Path | None, **how: Any) -> Line:
        plain = {"kill": None, "recovery": -1.0, "kill_after": None}
        return {"recipe": recipe, "folder": str(folder) if folder else None, **plain, **how}

    def run(self, recipe: Blocks, folder: Path | None, **how: Any) -> Line | None:
        """What a run found, or None where it was killed.

        Args:
            recipe: its plain data.
            folder: of the storage.
            how: `kill`: the stage and the step at which it kills itself; `kill_after`: seconds after which it is
                killed; `recovery`: seconds between two states to recover from.
        """
        answer = self._ask(self._told(recipe, folder, **how))
        killed = answer["code"] == -signal.SIGKILL
        assert killed or answer["code"] == 0
        # The clock can also kill it between its last word and its end.
        found: Line | None = None if killed else answer["found"]
        assert (found is None) is killed
        return found

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def unbroken(setup_of: SetupOf, recipe: Blocks) -> Line:
    """The same, in this process, in one go and without a storage."""
    from prune_search.trial.run import run_trial

    result = run_trial(setup_of(recipe), None)
    return {
        "mask": result.masks.sha256,
        "weights": result.weights_sha256,
        "metrics": dict(result.metrics),
        "steps": list(result.steps),
    }


def same(found: Line | None, whole: Line) -> bool:
    return found is not None and all(found[key] == whole[key] for key in ("mask", "weights", "metrics"))


def instants(name: str, seed: int, times: int = 1) -> list[tuple[str, int]]:
    """Steps in every stage, drawn with a seed, in the order in which they are reached."""
    draw = random.Random(seed)
    return [
        (stage, step)
        for stage, steps in {**STAGES, **MOVING}[name][1].items()
        for step in sorted(draw.sample(range(2, steps + 1), times))
    ]


@pytest.mark.parametrize(
    "seed",
    [0, pytest.param(1, marks=pytest.mark.slow), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))],
)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in (*STAGES, *MOVING)])
def test_a_trial_killed_twice_in_every_stage_ends_as_one_that_was_not(
    server: Server, setup_of: SetupOf, tmp_path: Path, name: str, seed: int
) -> None:
    recipe, stages = {**STAGES, **MOVING}[name]
    kills = instants(name, seed, times=2)
    for instant in kills:
        assert server.run(recipe, tmp_path, kill=instant) is None
    found, whole = server.run(recipe, tmp_path), unbroken(setup_of, recipe)
    assert same(found, whole)
    # A kill falls between a step and the state after it, so the last run went on from the state before that step.
    stage, step = kills[-1]
    assert found is not None
    assert found["steps"][:2] == [stages[stage] - (step - 1), whole["steps"][0] - stages[stage] + (step - 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_without_states_to_recover_from_the_stage_begins_anew(
    server: Server, setup_of: SetupOf, tmp_path: Path, name: str
) -> None:
    recipe, stages = STAGES[name]
    kills = instants(name, 7)
    for instant in kills:
        assert server.run(recipe, tmp_path, kill=instant, recovery=1e9) is None
    found, whole = server.run(recipe, tmp_path, recovery=1e9), unbroken(setup_of, recipe)
    assert same(found, whole)
    assert found is not None
    assert found["steps"][0] == stages[kills[-1][0]]


@pytest.mark.slow
def test_two_fresh_processes_find_the_same_bits_as_this_one(server: Server, setup_of: SetupOf) -> None:
    other = Server()
    try:
        assert server.run(GREG, None) == other.run(GREG, None) == unbroken(setup_of, GREG)
    finally:
        other.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_kills_at_any_moment_even_while_a_state_is_written(
    server: Server, setup_of: SetupOf, tmp_path: Path, name: str
) -> None:
    """The clock decides: also between two steps, in the middle of a write or a removal."""
    kill_by_the_clock(server, setup_of, tmp_path, name, seed=0, times=4)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("name", STAGES)
def test_many_kills_at_any_moment(server: Server, setup_of: SetupOf, tmp_path: Path, name: str, seed: int) -> None:
    kill_by_the_clock(server, setup_of, tmp_path, name, seed, times=15)


def kill_by_the_clock(server: Server, setup_of: SetupOf, tmp_path: Path, name: str, seed: int, times: int) -> None:
    recipe, draw = STAGES[name][0], random.Random(seed)
    for _ in range(times):
        server.run(recipe, tmp_path, kill_after=draw.uniform(0.0, 0.25))
    assert same(server.run(recipe, tmp_path), unbroken(setup_of, recipe))
