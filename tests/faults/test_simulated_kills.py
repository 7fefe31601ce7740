"""Row 1 of the fault table on the simulator: the driver and its workers are killed at any write of the ledger."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from real_search import outcomes
from simulated_runs import FAILING, Simulated, shuffled
from simulated_search import SPACE

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


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    records = Simulated.begin(tmp_path_factory.mktemp("unbroken"), JUDGED, FAILING).run()
    # What is compared with holds a trial of every kind of end.
    assert {trial.status for trial in records.numbered()} >= {"completed", "stopped", "failed"}
    return records


@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_that_is_killed_again_and_again_ends_as_the_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: SearchRecords, seed: int
) -> None:
    draw = random.Random(seed)
    search = Simulated.begin(tmp_path, JUDGED, FAILING)
    put_file, left = files.put_file, 0

    def put_or_die(path: Path, data: bytes, *, lasting: bool = True) -> None:
        nonlocal left
        left -= 1
        if left == 0 and draw.random() < 0.5:
            # Half-way: a name that nobody reads.
            path.with_name(f".tmp-1-{seed:016x}").write_bytes(data[: len(data) // 2])
            raise Killed
        put_file(path, data, lasting=lasting)
        if left == 0:
            raise Killed

    monkeypatch.setattr("prune_search.ledger.records.put_file", put_or_die)
    # The machine goes on: what was written is there, synced or not.
    monkeypatch.setattr("os.fsync", lambda handle: None)
    kills = 0
    while True:
        left = draw.randint(1, 60)
        try:
            search.run(shuffled(draw.randrange(1000)))
            break
        except Killed:
            kills += 1
    assert kills >= 1
    records = read_search(search.folder)
    assert outcomes(records) == outcomes(unbroken)
    for trial in records.trials.values():
        places = [(record.data["round"], record.data["step"]) for record in trial.measured]
        assert len(places) == len(set(places))
