"""Row 1 of the fault table on the simulator: the driver and its workers are killed at any write of the ledger."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from real_search import outcomes
from simulated_runs import FAILING, Simulated, shuffled
from simulated_search import SPACE

from prune_search.api.definition import BY_NAME, space_of
from prune_search.ledger.records import SearchRecords, read_search
from prune_search.storage import files

pytestmark = pytest.mark.faults

SEEDS = [
    0,
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4)),
    *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 50)),
]
# The judge, too, decides alike after a kill; three workers, so that much is under way at each.
JUDGED = SPACE.replace("seed: 5}", "seed: 5, scheduler: {name: asha, grace: 1ep, eta: 2}}")


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


class Dies:
    """A process that is killed while it writes its records.

    Args:
        patch: what makes its writing do so.
        draw: of whether the record that it dies at is written in half or whole.
    """

    def __init__(self, patch: pytest.MonkeyPatch, draw: random.Random) -> None:
        self.draw = draw
        self.left = 0
        self.put_file = files.put_file
        patch.setattr("prune_search.ledger.records.put_file", self.put_or_die)
        # The machine goes on: what was written is there, synced or not.
        patch.setattr("os.fsync", lambda handle: None)

    def after(self, records: int) -> None:
        """Die at the record of that number from now."""
        self.left = records

    def put_or_die(self, path: Path, data: bytes, *, lasting: bool = True) -> None:
        self.left -= 1
        if self.left == 0 and self.draw.random() < 0.5:
            # Half-way: a name that nobody reads.
            path.with_name(f".tmp-1-{self.draw.getrandbits(64):016x}").write_bytes(data[: len(data) // 2])
            raise Killed
        self.put_file(path, data, lasting=lasting)
        if self.left == 0:
            raise Killed


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    records = Simulated.begin(tmp_path_factory.mktemp("unbroken"), JUDGED, FAILING).run()
    # What is compared with holds a trial of every kind of end.
    assert {trial.status for trial in records.numbered()} >= {"completed", "stopped", "failed"}
    return records


def killed_until_it_ends(
    search: Simulated,
    dies: Dies,
    draw: random.Random,
    least: int,
    most: int,
    again: Callable[[Simulated], Simulated] = lambda search: search,
) -> int:
    """Run a search that dies after `least` to `most` records, again and again; how often it died.

    Args:
        search: begun.
        dies: lets it die.
        draw: of when, and of the order in which its workers go on.
        least: records.
        most: records.
        again: what goes on after each death.
    """
    kills = 0
    while True:
        dies.after(draw.randint(least, most))
        try:
            search.run(shuffled(draw.randrange(1000)))
        except Killed:
            kills += 1
            search = again(search)
        else:
            return kills


@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_that_is_killed_again_and_again_ends_as_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: SearchRecords, seed: int
) -> None:
    draw = random.Random(seed)
    search = Simulated.begin(tmp_path, JUDGED, FAILING)
    dies = Dies(monkeypatch, draw)
    kills = killed_until_it_ends(search, dies, draw, 1, 60)
    assert kills >= 1
    records = read_search(search.folder)
    assert outcomes(records) == outcomes(unbroken)
    for trial in records.trials.values():
        places = [(record.data["round"], record.data["step"]) for record in trial.measured]
        assert len(places) == len(set(places))


# Holes of blocks whose names are not in the order of the alphabet, nor are the holes within a block.
TWISTED = """\
train: {steps: 3ep, optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 0.5}}}
weights: {at: {hole: choice, of: [end, 1ep]}}
rounds: 1
retrain: {steps: {hole: int, low: 1ep, high: 3ep}, clock: {hold: 0.01}}
mask:
  sparsity: {hole: uniform, low: 0.5, high: 0.95}
  at: end
  criterion: {hole: choice, of: [random, magnitude, l1]}
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
search:
  {seed: 5, trials: 9, sampler: SAMPLER, reproducible: true, concurrency: 2,
  objectives: OBJECTIVES, scheduler: SCHEDULER}
"""
ASHA, PROMOTE = "{name: asha, grace: 1ep, eta: 2}", "{name: asha-promote, grace: 20%, eta: 2}"
NAMES = {"none": "none", ASHA: "asha", PROMOTE: "asha-promote"}
ONE, TWO = "[maximize val/accuracy]", "[maximize val/accuracy, maximize sparsity]"
SEARCHED = [
    ("guided", "none", TWO),
    ("guided", ASHA, ONE),
    ("guided", PROMOTE, TWO),
    ("tpe", PROMOTE, ONE),
    ("random", PROMOTE, TWO),
    ("grid", "none", ONE),
    ("grid", ASHA, ONE),
    ("tpe", "none", TWO),
    ("tpe", ASHA, ONE),
    ("nsga2", "none", TWO),
    ("nsga2", ASHA, ONE),
    ("random", "none", ONE),
    ("random", ASHA, ONE),
]


@pytest.mark.parametrize(
    ("sampler", "scheduler", "objectives"),
    [pytest.param(*case, marks=() if case[:2] == ("tpe", PROMOTE) else pytest.mark.slow) for case in SEARCHED],
    ids=[f"{sampler}-{NAMES[scheduler]}" for sampler, scheduler, _ in SEARCHED],
)
def test_a_killed_search_goes_on_from_what_was_stored_whatever_the_order_of_its_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, scheduler: str, objectives: str
) -> None:
    """Each process that goes on reads the space from search.json, whose keys are sorted; the first has the file's."""
    written = {"tpe": "{name: tpe, startup: 3}", "nsga2": "{name: nsga2, population: 3}"}.get(sampler, sampler)
    text = TWISTED.replace("SAMPLER", written).replace("SCHEDULER", scheduler).replace("OBJECTIVES", objectives)
    whole = Simulated.begin(tmp_path / "whole", text).run()
    search = Simulated.begin(tmp_path / "killed", text)
    draw = random.Random(7)
    dies = Dies(monkeypatch, draw)

    def read_again(one: Simulated) -> Simulated:
        stored = json.dumps({**read_search(one.folder).definition, "hole_order": BY_NAME}, sort_keys=True)
        return replace(one, space=space_of(json.loads(stored)))

    kills = killed_until_it_ends(search, dies, draw, 15, 60, read_again)
    assert kills >= 2
    assert outcomes(read_search(search.folder)) == outcomes(whole)
    assert len({json.dumps(dict(trial.params), sort_keys=True) for trial in whole.numbered()}) > 4


# A space of which `guided` knows every recipe, so that a process begins quickly.
LISTED = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 3ep}
mask: {sparsity: {hole: choice, of: [0.8, 0.9, 0.95, 0.98]}}
any:
- preset: snip
- preset: late-rewinding
  weights: {at: {hole: choice, of: [0it, 1ep]}}
  rounds: {hole: choice, of: [1, 2, 4]}
- preset: magnitude-after-training
  retrain: {steps: {hole: choice, of: [1ep, 3ep]}, clock: {hold: {hole: choice, of: [0.01, 0.05]}}}
search:
  {seed: 5, trials: 30, sampler: guided, reproducible: true, concurrency: 3, objectives: OBJECTIVES,
  scheduler: {name: asha-promote, grace: 10%, eta: 2}}
"""
# Cheaper forms of recipes are tried first; the trials in which they rank are those that are told here.
CHEAPER = LISTED.replace("trials: 30", "trials: 8").replace(
    "scheduler: {name: asha-promote, grace: 10%, eta: 2}", "fidelity: [{steps: 0.34}, {rounds: 0.5}]"
)
KILLS = 50


@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "two"])
@pytest.mark.slow
def test_a_guided_search_that_is_killed_fifty_times_promotes_whom_the_unbroken_one_promotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objectives: str
) -> None:
    text = LISTED.replace("OBJECTIVES", objectives)
    whole = Simulated.begin(tmp_path / "whole", text, FAILING).run()
    assert {trial.status for trial in whole.numbered()} >= {"completed", "paused", "failed"}
    assert sum(len(trial.promotions) for trial in whole.numbered()) >= 3
    search = Simulated.begin(tmp_path / "killed", text, FAILING)
    draw = random.Random(3)
    dies = Dies(monkeypatch, draw)
    for _ in range(KILLS):
        # All that is left is written by the last process.
        dies.after(draw.randint(1, 8))
        with pytest.raises(Killed):
            search.run(shuffled(draw.randrange(1000)))
    dies.after(-1)
    search.run(shuffled(draw.randrange(1000)))
    assert outcomes(read_search(search.folder)) == outcomes(whole)


@pytest.mark.slow
def test_a_search_with_low_fidelities_that_is_killed_ends_as_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CHEAPER.replace("OBJECTIVES", ONE)
    whole = Simulated.begin(tmp_path / "whole", text).run()
    # Both forms were tried, and full trials were decided after them.
    assert {trial.fidelity for trial in whole.low_fidelity()} == {"steps 0.34", "rounds 0.5"}
    assert whole.numbered()[-1].turn > whole.low_fidelity()[-1].turn > 3
    assert len(whole.numbered()) == 8
    search = Simulated.begin(tmp_path / "killed", text)
    draw = random.Random(11)
    dies = Dies(monkeypatch, draw)
    kills = killed_until_it_ends(search, dies, draw, 15, 45)
    assert kills >= 3
    killed = read_search(search.folder)
    assert outcomes(killed) == outcomes(whole)
    assert {t.id: (t.turn, t.fidelity) for t in killed.trials.values()} == {
        t.id: (t.turn, t.fidelity) for t in whole.trials.values()
    }
