"""What a search costs besides training: the quickstart, searched, and what its records say.

    python tests/benchmarks/seconds_beyond_training.py [--trials N] [--records FOLDER]

For each trial the seconds between the records *proposed* and *ended*, less those in which it made training steps: that
is what Ray, the records, the measurements on the way, the masks, the stored states and a worker's start cost. The
median over the trials is to stay under half a second; stock Ray Tune with a new worker for each trial costs about ten.
With --records a finished search is read, and nothing is run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import prune_search
from prune_search import Where
from prune_search.ledger.records import SearchRecords, TrialRecords, read_search


def seconds(trial: TrialRecords) -> tuple[float, float, float]:
    """(proposed to ended, training, proposed to started) of a trial that ran."""
    assert trial.proposed is not None
    assert trial.ended is not None
    wall = trial.ended.time - trial.proposed.time
    return wall, trial.ended.data["training_seconds"], trial.attempts[-1].time - trial.proposed.time


def report(records: SearchRecords, wall_s: float | None) -> None:
    """Print the figures of a search."""
    ran = [trial for trial in records.trials.values() if trial.ended is not None and trial.attempts]
    figures = {trial.id: seconds(trial) for trial in ran}
    beyond = {identity: wall - training for identity, (wall, training, _) in figures.items()}
    for trial in ran:
        wall, training, waited = figures[trial.id]
        name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
        print(f"{name:44s} wall {wall:6.2f} s  training {training:6.2f}  until begun {waited:6.2f}")
    everything = list(records.trials.values())
    begun = min(trial.attempts[0].time for trial in ran)
    ended = max(trial.ended.time for trial in everything if trial.ended is not None)
    counted = [beyond[trial.id] for trial in ran if not trial.control]
    print(
        f"trials            {len(counted)} and {len(ran) - len(counted)} controls, "
        f"{records.counts()['duplicate']} repeated"
    )
    print(f"beyond training   median {statistics.median(counted):.2f} s a trial, all {sum(beyond.values()):.1f} s")
    print(f"training          {sum(training for _, training, _ in figures.values()):.1f} s in {len(ran)} trials")
    print(f"first to last     {ended - begun:.1f} s")
    print(f"until the first   {begun - records.definition['created']:.1f} s, with Ray's start")
    if wall_s is not None:
        print(f"whole search      {wall_s:.1f} s")


def main() -> None:
    """Run the quickstart, or read a search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--records", type=Path)
    given = parser.parse_args()
    if given.records is not None:
        report(read_search(given.records), None)
        return
    with tempfile.TemporaryDirectory(prefix="seconds-beyond-training-") as folder:
        begun = time.monotonic()
        outcome = prune_search.launch("quickstart", set={"search.trials": given.trials}, where=Where(storage=folder))
        report(outcome.records, time.monotonic() - begun)


if __name__ == "__main__":
    main()
