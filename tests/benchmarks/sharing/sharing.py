"""What sharing saves: lists of recipes run with sharing on and off.

    python tests/benchmarks/sharing/sharing.py --data-root FOLDER_OF_FASHION_MNIST [--only two,four,…] [--steps 240]
        [--pairs 3]

Prints, per list, the steps trained (replayed, repeated and abandoned ones included) with sharing off and on, their
ratio, the ceiling that `plan` states and how much of it was reached; device seconds (inside trials) and wall seconds;
and whether the two runs found the same masks and weights, bit for bit. Steps shrink alike however long a training is;
seconds do so the less, the shorter it is, since what a trial costs besides is not shared. ``studies`` takes 20 minutes.

The first launch of a process also imports Ray, so one that is not counted goes before. ``--pairs N`` runs each list N
times both ways, in alternating order, and prints the wall seconds of every pair; the other figures are of the first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prune_search
from prune_search import Options, Where
from prune_search.ledger.account import total
from prune_search.ledger.records import TrialRecords
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.schema import BLOCKS
from prune_search.recipe.space import known_epoch
from prune_search.trial.addresses import nominal_branch

HERE = Path(__file__).parent
# Five studies on one storage: the same list, each removing another fraction per round.
FRACTIONS = (0.15, 0.2, 0.25, 0.3, 0.35)


@dataclass(frozen=True)
class Study:
    """One search of a list."""

    space: str
    values: Mapping[str, Any]


LISTS: dict[str, tuple[Study, ...]] = {
    "two": (Study(str(HERE / "two_rewind_points.yaml"), {}),),
    "four": (Study(str(HERE / "four_rewind_points.yaml"), {}),),
    "studies": tuple(
        Study(str(HERE / "four_rewind_points.yaml"), {"mask.sparsity": {"per_round": share}}) for share in FRACTIONS
    ),
    "continuous": (Study(str(HERE / "continuous_rewind_points.yaml"), {}),),
    "plane": (Study("paradigm_plane", {"search.controls": False, "search.reproducible": True}),),
    "quickstart": (Study("quickstart", {"search.controls": False, "search.reproducible": True}),),
}


@dataclass(frozen=True)
class Total:
    """What the searches of a list came to.

    Attributes:
        steps: the account of all trials (see `trial.account.Account`).
        device_s: seconds inside trials, summed.
        wall_s: seconds.
        results: key, mask and weights of every trial, sorted.
        distinct: distinct steps of all recipes: what no sharing can be better than.
    """

    steps: Mapping[str, int]
    device_s: float
    wall_s: float
    results: tuple[tuple[str, str, str], ...]
    distinct: int


def longer(studies: Sequence[Study], steps: int) -> list[Study]:
    """The same searches with another length of training."""
    return [Study(study.space, {**study.values, "train.steps": f"{steps}it"}) for study in studies]


class Storage:
    """The searches of a list, launched one after the other on one storage.

    Args:
        folder: the storage.
        data_root: of the data set's files.
        sharing: whether they share training.
    """

    def __init__(self, folder: Path, data_root: Path, sharing: bool) -> None:
        self._where = Where(data_root=data_root, storage=folder)
        self._sharing = sharing
        self._trials: list[TrialRecords] = []
        self._wall_s = 0.0

    def launch(self, study: Study, name: str) -> None:
        """Launch one."""
        begun = time.perf_counter()
        options = Options(name, sharing=self._sharing)
        outcome = prune_search.launch(study.space, set=study.values, where=self._where, options=options)
        self._wall_s += time.perf_counter() - begun
        self._trials += outcome.records.numbered()

    def total(self) -> Total:
        """What they came to."""
        results = [
            (str(trial.result["key"]), str(trial.result["mask_sha256"]), str(trial.result["weights_sha256"]))
            for trial in self._trials
        ]
        device = sum(float(trial.ended.data["seconds"]) for trial in self._trials if trial.ended is not None)
        steps, distinct = total(self._trials).as_data(), distinct_steps(self._trials)
        return Total(steps, device, self._wall_s, tuple(sorted(results)), distinct)


def warm_up(data_root: Path) -> None:
    """A launch that pays for what only the first one of a process does."""
    with tempfile.TemporaryDirectory() as folder:
        few = {"search.trials": 2, "search.controls": False, "train.steps": "5it"}
        Storage(Path(folder), data_root, True).launch(Study("quickstart", few), "warm-up")


def run(studies: Sequence[Study], data_root: Path, turned: bool = False) -> tuple[Total, Total]:
    """The list with sharing on, and off. The two take turns, so that a machine that slows down does so for both.

    Args:
        studies: of the list.
        data_root: of the data set's files.
        turned: whether the one without sharing goes first.
    """
    with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryDirectory() as apart:
        on, off = Storage(Path(shared), data_root, True), Storage(Path(apart), data_root, False)
        for index, study in enumerate(studies):
            for storage in (off, on) if turned else (on, off):
                storage.launch(study, f"study-{index}")
        return on.total(), off.total()


def distinct_steps(trials: Sequence[TrialRecords]) -> int:
    """Steps of the recipes with every segment counted once, as `plan` counts them."""
    longest: dict[str, int] = {}
    for trial in trials:
        recipe = Recipe.read({key: trial.recipe[key] for key in BLOCKS})
        for vertex in nominal_branch(recipe, known_epoch(recipe) or 1)[1].vertices():
            longest[vertex.address] = max(vertex.needed, longest.get(vertex.address, 0))
    return sum(longest.values())


def report(name: str, studies: Sequence[Study], data_root: Path, pairs: int) -> None:
    """Run a list both ways, and print what came out."""
    runs = [run(studies, data_root, turned=pair % 2 == 1) for pair in range(pairs)]
    on, off = runs[0]
    trained, alone = on.steps["steps_trained"], off.steps["steps_trained"]
    wasted = ", ".join(f"{word} {on.steps[f'steps_{word}']}" for word in ("replayed", "repeated", "abandoned"))
    print(f"\n{name}: {len(on.results)} trials in {len(studies)} searches; ceiling {alone / on.distinct:.2f}")
    print(f"  steps     off {alone:,}  on {trained:,} ({wasted})  ratio {alone / trained:.2f}")
    print(f"  ratio ÷ ceiling {on.distinct / trained:.3f}")
    print(f"  device s  off {off.device_s:.1f}  on {on.device_s:.1f}  ratio {off.device_s / on.device_s:.2f}")
    print(f"  wall s    off {off.wall_s:.1f}  on {on.wall_s:.1f}  ratio {off.wall_s / on.wall_s:.2f}")
    if pairs > 1:
        shown = ", ".join(f"{apart.wall_s:.1f} / {shared.wall_s:.1f}" for shared, apart in runs)
        middle = statistics.median(apart.wall_s / shared.wall_s for shared, apart in runs)
        print(f"  wall s off / on of every pair: {shown}; median ratio {middle:.2f}")
    equal = all(shared.results == apart.results for shared, apart in runs)
    print(f"  equal results, bit for bit: {equal}", flush=True)


def main() -> None:
    """Print the figures of the lists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="iterations of training, instead of those that are written")
    parser.add_argument("--only", default=",".join(LISTS), help=f"some of {', '.join(LISTS)}")
    parser.add_argument("--pairs", type=int, default=1, help="how often each list is run both ways")
    given = parser.parse_args()
    warm_up(given.data_root)
    for name in given.only.split(","):
        studies = LISTS[name] if given.steps is None else longer(LISTS[name], given.steps)
        report(name, studies, given.data_root, given.pairs)


if __name__ == "__main__":
    main()
