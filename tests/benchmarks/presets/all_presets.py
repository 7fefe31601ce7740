"""Every preset at equal training operations: a table at three sparsities, and which published orderings hold.

    python tests/benchmarks/presets/all_presets.py --data-root FOLDER_OF_FASHION_MNIST --storage DIR

Runs all_presets.yaml beside this file (about 270 trials; goes on where an earlier run was interrupted), and prints
validation accuracy in per cent, mean ± deviation over the seeds, the operations of training that the masks would spare,
and for published orderings whether they hold here: where two means differ by more than two standard errors of their
difference, and in which direction.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import SearchRecords, read_search, search_folder

SPACE, NAME = Path(__file__).with_name("all_presets.yaml"), "all-presets"
SPARSITIES = (0.9, 0.95, 0.98)
ERRORS = 2.0
# (the better one, the worse one, who says so)
ORDERINGS = (
    ("late-rewinding", "lottery-ticket", "Frankle et al. 2019, 1903.01611"),
    ("lottery-ticket", "control-shuffle", "Frankle & Carbin 2019, 1803.03635"),
    ("weight-rewinding", "fine-tune", "Renda et al. 2020, 2003.02389"),
    ("learning-rate-rewinding", "fine-tune", "Renda et al. 2020, 2003.02389"),
    ("learning-rate-rewinding", "lottery-ticket", "Renda et al. 2020, 2003.02389"),
    ("fine-tune", "snip", "Frankle et al. 2021, 2009.08576"),
    ("magnitude-after-training", "snip", "Frankle et al. 2021, 2009.08576"),
    ("snip", "random", "Lee et al. 2019, 1810.02340"),
    ("grasp", "snip", "Wang et al. 2020, 2002.07376"),
    ("synflow", "snip", "Tanaka et al. 2020, 2006.05467"),
    ("force", "snip", "de Jorge et al. 2021, 2006.09081"),
    ("iterative-snip", "snip", "de Jorge et al. 2021, 2006.09081"),
    ("sbp-sr", "snip", "Hayou et al. 2021, 2002.08797"),
    ("set", "random", "Mocanu et al. 2018, 1707.04780"),
    ("rigl", "random", "Evci et al. 2020, 1911.11134"),
    ("rigl", "set", "Evci et al. 2020, 1911.11134"),
    ("snfs", "set", "Dettmers & Zettlemoyer 2019, 1907.04840"),
    ("deepr", "random", "Bellec et al. 2018, 1711.05136"),
    ("gradual-magnitude", "magnitude-after-training", "Zhu & Gupta 2017, 1710.01878"),
    ("gradual-magnitude", "rigl", "Evci et al. 2020, 1911.11134 (at equal steps)"),
    ("greg-1", "scratch-e", "Wang et al. 2021, 2012.09243"),
    ("greg-2", "greg-1", "Wang et al. 2021, 2012.09243"),
    ("scratch-b", "scratch-e", "Liu et al. 2019, 1810.05270"),
    ("thinet", "scratch-e", "Luo et al. 2017, 1707.06342"),
)


@dataclass(frozen=True)
class Cell:
    """One preset at one asked sparsity.

    Attributes:
        accuracies: validation accuracy in per cent, one per seed.
        reached: sparsity of the final mask, the mean.
        dense: operations of training as if nothing were pruned, the mean.
        sparse: the same but for what the masks spare.
    """

    accuracies: tuple[float, ...]
    reached: float
    dense: float
    sparse: float

    @property
    def mean(self) -> float:
        """Of the accuracies."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float:
        """Sample standard deviation of the accuracies; 0 of a single one."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


Cells = Mapping[tuple[str, float | None], Cell]


def cells_of(records: SearchRecords) -> Cells:
    """By preset and asked sparsity (None where a preset asks for none)."""
    found = defaultdict(list)
    for trial in records.numbered():
        if trial.status != "completed" or trial.proposed is None:
            continue
        asked = trial.recipe["mask"]["sparsity"]
        share = asked["final"] if isinstance(asked, Mapping) and asked.get("final") else None
        found[(trial.proposed.data["option"], share)].append(trial.metrics)
    cells = {}
    for place, metrics in found.items():
        accuracies = tuple(100 * one["val/accuracy"] for one in metrics)
        dense, sparse = (
            statistics.fmean(
                one[f"train/forward_flops_{kind}"] + one[f"train/backward_flops_{kind}"] for one in metrics
            )
            for kind in ("dense", "sparse")
        )
        cells[place] = Cell(accuracies, statistics.fmean(one["sparsity"] for one in metrics), dense, sparse)
    return cells


def table(cells: Cells) -> None:
    """Print a row per preset."""
    heads = "".join(f"{f'{100 * share:g} %':^32}" for share in SPARSITIES)
    print(f"{'':26}{heads}\n{'preset':26}" + f"{'accuracy':>14}{'reached':>9}{'FLOPs':>7}  " * len(SPARSITIES))
    names = list(dict.fromkeys(name for name, _ in cells))
    for name in names:
        row = ""
        for share in (None, *SPARSITIES):
            cell = cells.get((name, share))
            if share is None and cell is None:
                continue
            row += f"{'–':>14}{'':18}" if cell is None else _shown(cell)
            if share is None:
                break
        print(f"{name:26}{row}".rstrip())


def _shown(cell: Cell) -> str:
    spent = f"{cell.mean:.2f} ±{cell.deviation:.2f}"
    return f"{spent:>14}{100 * cell.reached:8.1f}%{cell.sparse / cell.dense:6.2f}x  "


def orderings(cells: Cells) -> None:
    """Print which published orderings hold, at each sparsity."""
    print("\npublished ordering (better > worse): difference in points at each sparsity")
    for better, worse, source in ORDERINGS:
        said = []
        for share in SPARSITIES:
            one, other = cells.get((better, share)), cells.get((worse, share))
            said.append("–" if one is None or other is None else verdict(one, other))
        print(f"  {f'{better} > {worse}':44}" + "".join(f"{word:>22}" for word in said) + f"   {source}")


def verdict(one: Cell, other: Cell) -> str:
    """The difference of two means in words."""
    difference = one.mean - other.mean
    error = math.sqrt(sum(cell.deviation**2 / len(cell.accuracies) for cell in (one, other)))
    if abs(difference) <= ERRORS * error:
        return f"{difference:+.2f} no difference"
    return f"{difference:+.2f} {'holds' if difference > 0 else 'reversed'}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is left to run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--storage", type=Path, required=True)
    options = parser.parse_args(arguments)
    folder = search_folder(options.storage, NAME)
    where = Where(data_root=options.data_root, storage=options.storage)
    if folder.exists():
        prune_search.resume(NAME, where=where)
    else:
        prune_search.launch(str(SPACE), where=where, options=Options(NAME))
    records = read_search(folder)
    cells = cells_of(records)
    failed = [trial.id for trial in records.numbered() if trial.status == "failed"]
    print(f"{len(records.numbered())} trials, {len(failed)} failed {failed}")
    dense = cells[("dense", None)]
    print(f"dense network: {dense.dense:.3g} operations of training, forward and backward; FLOPs: share of a row's own")
    table(cells)
    orderings(cells)


if __name__ == "__main__":
    main()
