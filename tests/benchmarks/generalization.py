"""Test error over the pruning fraction in both regimes of a theory, five seeds: the table and the guide's picture.

    python tests/benchmarks/generalization.py | tee tests/benchmarks/records/generalization.log

Every recipe of the space `generalization` is run, of which the seed draws the data too, as in the theory (Yang et al.
2023, 2301.00335); in the space all seeds have the same data. A signal weight is one that can see its class's signal:
that of coordinate k in a neuron of class k. With --picture the picture is written to that file; what the folder of
--storage has already is not trained again.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_search.api.run import run
from prune_search.api.where import Where
from prune_search.recipe import strict_yaml
from prune_search.recipe.named import Named
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import find, read_space
from prune_search.report.figure_style import COLOURS, LINES, QUIET, RC, drawn, grid, legend, log_shares, new_figure
from prune_search.trial.result import Result

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "search_spaces" / "generalization.yaml"
ACCURACIES = ("train/accuracy", "test/accuracy")


@dataclass(frozen=True)
class Trained:
    """One network.

    Attributes:
        train, test: accuracies, 0 … 1.
        signal_weights: kept ones.
    """

    train: float
    test: float
    signal_weights: int


def axes_of_the_space() -> tuple[list[int], list[float]]:
    """The seeds and the fractions of the space."""
    raw: Any = strict_yaml.load_file(SPACE)
    return raw["task"]["seed"]["of"], raw["mask"]["sparsity"]["of"]


def recipe(seed: int, sparsity: float) -> dict[str, Any]:
    """One recipe of the space, with data of its own seed, and the search block that names what is measured."""
    raw, source = find(str(SPACE))
    sets = [("task.seed", seed), ("mask.sparsity", sparsity)]
    canonical: dict[str, Any] = dict(read_space(raw, source, sets).only_recipe().canonical)
    task = canonical["task"]
    canonical["task"] = {**task, "data": {**task["data"], "seed": seed}}
    return {**canonical, "search": {"constraints": raw["search"]["constraints"]}}


def signal_weights(result: Result) -> int:
    """How many kept weights lead from coordinate k to a neuron of class k."""
    source = result.recipe.task.source
    (mask,) = dict(result.masks).values()
    by_class = mask.view(source.classes, -1, *source.shape)
    return sum(int(by_class[label, :, label].sum()) for label in range(source.classes))


def trained(seed: int, sparsity: float, storage: Path) -> Trained:
    """Run one recipe."""
    result = run(recipe(seed, sparsity), where=Where(storage=storage))
    train, test = ({**result.metrics, **result.test_metrics}[name] for name in ACCURACIES)
    return Trained(train, test, signal_weights(result))


def table(found: Mapping[float, Sequence[Trained]], chance: float) -> str:
    """Means and standard deviations over the seeds."""
    lines = ["  weights left   train accuracy    test accuracy   test error per seed (%)          signal weights left"]
    for sparsity, networks in found.items():
        train, test = ([getattr(one, name) for one in networks] for name in ("train", "test"))
        errors = " ".join(f"{100 * (1 - value):5.1f}" for value in test)
        weights = " ".join(str(one.signal_weights) for one in networks)
        lines.append(f"{1 - sparsity:14.1%} {spread(train):>16} {spread(test):>16}   {errors:<32} {weights}")
    none = [one for networks in found.values() for one in networks if not one.signal_weights]
    if none:
        fit, guess = (statistics.fmean(values) for values in zip(*((one.train, one.test) for one in none), strict=True))
        without = f"the {len(none)} networks without a signal weight"
        lines += ["", f"{without}: train {fit:.3f}, test {guess:.3f}, chance {chance:.3f}"]
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def verdict(found: Mapping[float, Sequence[Trained]]) -> str:
    """Whether both regimes are there."""
    means = {sparsity: statistics.fmean(one.test for one in networks) for sparsity, networks in found.items()}
    fits = [s for s, networks in found.items() if min(one.train for one in networks) == 1.0]
    best = max(means, key=lambda s: means[s])
    gains = sum(b.test > a.test for a, b in zip(found[min(found)], found[best], strict=True))
    last = max(fits)
    gain = f"{means[best]:.3f} against {means[min(found)]:.3f} of all; better with {gains} of {len(found[best])} seeds"
    mild = f"mild: {1 - best:.1%} of the weights generalize best, {gain}"
    fit = "still fit every training example with every seed"
    over = f"over: {1 - last:.1%} of the weights {fit}, test {means[last]:.3f}"
    return f"{mild}\n{over}"


def picture(found: Mapping[float, Sequence[Trained]], chance: float) -> bytes:
    """Test and training error over the weights left: means over the seeds, and each seed's test error."""
    import matplotlib

    with matplotlib.rc_context(RC):
        seeds = len(next(iter(found.values())))
        figure, (axes,) = new_figure(f"Pruned at random before training: two regimes ({seeds} seeds)")
        left = [1 - sparsity for sparsity in found]
        for place, (name, label) in enumerate((("test", "test error"), ("train", "training error"))):
            errors = [[1 - getattr(one, name) for one in networks] for networks in found.values()]
            look = {"color": COLOURS[1 - place], "marker": "os"[place], "linestyle": LINES[place], "markersize": 5.5}
            means = [statistics.fmean(values) for values in errors]
            axes.plot(left, means, linewidth=1.3, label=f"{label}, mean", zorder=3, **look)
            if name == "test":
                spots = [(x, y) for x, values in zip(left, errors, strict=True) for y in values]
                axes.plot(
                    *zip(*spots, strict=True), ".", color=QUIET, markersize=5, label="test error, a seed", zorder=2
                )
        axes.axhline(1 - chance, color="0.35", linewidth=1.2, linestyle=LINES[3], label="guessing", zorder=1)
        log_shares(axes, min(left) / 1.25, 1.25)
        axes.invert_xaxis()
        axes.set_ylim(-0.03, max(0.6, 1.15 * (1 - chance)))
        axes.set_xlabel("weights left (log scale)")
        axes.set_ylabel("error")
        for x, networks in zip(left, found.values(), strict=True):
            mean = statistics.fmean(one.signal_weights for one in networks)
            axes.annotate(f"{mean:.3g}", (x, axes.get_ylim()[1]), ha="center", va="top", fontsize=7.5, color="0.35")
        axes.set_title("signal weights left, mean over the seeds, along the top", fontsize=8, color="0.35")
        grid(axes)
        legend(figure, axes)
        return drawn(figure, "svg", "generalization")


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--picture", type=Path, help="file of the picture, an SVG")
    parser.add_argument("--storage", type=Path, help="folder of states; left out, a temporary one")
    options = parser.parse_args()
    seeds, sparsities = axes_of_the_space()
    first = Recipe.read({key: value for key, value in recipe(seeds[0], sparsities[0]).items() if key != "search"})
    chance = 1 / first.task.source.classes
    begun, found = time.monotonic(), defaultdict(list)
    print("$ python tests/benchmarks/generalization.py\n")
    with tempfile.TemporaryDirectory() as folder:
        for sparsity in sparsities:
            for seed in seeds:
                found[sparsity].append(trained(seed, sparsity, options.storage or Path(folder)))
    assert isinstance(first.task.data, Named)
    data, steps = first.task.data.options, first.train.steps.resolve(0, 1)
    print(
        f"{data['train']} training and {data['test']} test examples of {data['dimension']} numbers, {data['classes']} "
        f"classes, signal {data['signal']}, noise {data['noise']}; {steps} steps of gradient descent"
    )
    print(f"{len(seeds)} seeds of data, weights and mask: mean ± standard deviation\n")
    print(table(found, chance))
    print(f"\n{verdict(found)}\n\n{time.monotonic() - begun:.0f} s")
    if options.picture:
        options.picture.write_bytes(picture(found, chance))


if __name__ == "__main__":
    main()
