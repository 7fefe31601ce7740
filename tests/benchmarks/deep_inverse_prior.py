"""PSNR over the steps of fitting one noisy picture: the dense network, and sparse ones of three kinds.

    python tests/benchmarks/deep_inverse_prior.py --picture-file prune_search/guide/deep_inverse_prior.svg

The log of a run lies in tests/benchmarks/records/.

Three photographs (two of scikit-learn, one that comes with matplotlib) get noise of deviation 0.1. A network is fitted
to each from a fixed random input, and compared every ten steps with the clean picture, which no training sees. The
masks: none; random before fitting; learned before fitting on untrained weights (Optimal Eye Surgeon's, `gumbel`); by
magnitude after fitting, weights rewound to where they began (a lottery ticket of one round). Of each curve its peak,
its end and the step at which it has fallen a decibel below its own peak are printed, and on how many pictures holds
what is claimed: that a sparse network found at initialization fits the noise later than the dense one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib

import prune_search
from prune_search.recipe.step import Step
from prune_search.report.figure_style import drawn, grid, legend, new_figure, styles
from prune_search.trial.callbacks import Evaluating, Observation, Silent

Curve = dict[int, float]
ADAM = {"name": "adam", "lr": 0.01, "weight_decay": 0.0}
FALLEN = 1.0
DENSE, LEARNED = "dense", "learned at initialization"


def pictures() -> dict[str, str]:
    """Three photographs, by name, as a recipe names them."""
    own = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return {"china": "china", "flower": "flower", "portrait": str(own)}


def masks(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What is done besides fitting, by name."""
    gumbel = {"name": "gumbel", "steps": f"{options.learn}it", "temperature": 0.2, "kl": 1.0e-9, "optimizer": ADAM}
    share = {"sparsity": options.sparsity, "scope": "global"}
    return {
        DENSE: {"at": "0it", "criterion": "all", "sparsity": 0},
        "random at initialization": {"at": "0it", "criterion": "random", **share},
        LEARNED: {"at": "0it", "criterion": gumbel, **share},
        "magnitude after fitting": {"at": "end", "criterion": "magnitude", **share},
    }


def curve(picture: str, mask: dict[str, Any], options: argparse.Namespace, storage: str) -> tuple[Curve, float]:
    """PSNR against the clean picture by step of the fitting under a mask, in dB, and the seconds that it took."""
    data = {"name": "denoise", "picture": picture, "size": options.size, "sigma": 0.1, "validate": "clean"}
    recipe = {
        "task": {"data": data, "model": {"name": "skip-net", "scales": options.scales}, "seed": options.seed},
        "train": {
            "steps": f"{options.steps}it",
            "batch": 1,
            "init": "kaiming-uniform",
            "optimizer": ADAM,
            "schedule": "constant",
        },
        "mask": mask,
        "weights": {"at": "0it"},
        "retrain": {"until": "end", "clock": "0it"},
    }
    found: Curve = {}

    def told(seen: Observation) -> None:
        found[seen.step] = seen.metrics["val/psnr"]

    begun = time.monotonic()
    sink = Evaluating(Silent(), Step.parse("10it"), told)
    result = prune_search.run(recipe, where=prune_search.Where(storage=storage), sink=sink)
    found[options.steps] = result.metrics["val/psnr"]
    return found, time.monotonic() - begun


def figures_of(found: Curve) -> tuple[float, int, float, int | None]:
    """Peak, its step, end, and the step from which it is a decibel below its peak for the first time after it."""
    best = max(found, key=lambda step: found[step])
    fallen = next((step for step in sorted(found) if step > best and found[step] <= found[best] - FALLEN), None)
    return found[best], best, found[max(found)], fallen


def draw(curves: dict[str, dict[str, Curve]], to: Path) -> None:
    """One panel for each picture."""
    figure, panels = new_figure("PSNR against the clean picture while a noisy one is fitted", len(curves), width=9.0)
    for axes, (picture, of_masks) in zip(panels, curves.items(), strict=True):
        looks = styles(of_masks)
        for name, found in of_masks.items():
            steps = sorted(found)
            axes.plot(steps, [found[step] for step in steps], color=looks[name].colour, label=name, linewidth=1.4)
        axes.set(title=picture, xlabel="step", ylabel="PSNR in dB" if axes is panels[0] else "")
        grid(axes)
    legend(figure, panels[0])
    to.write_bytes(drawn(figure, "svg", to.stem))


def main() -> None:
    """Print one line per picture and mask, then the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--scales", type=int, default=2)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--learn", type=int, default=150)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture-file", type=Path)
    options = parser.parse_args()
    curves: dict[str, dict[str, Curve]] = {}
    later: list[str] = []
    head = f"{options.size} pixels a side, {options.steps} steps of Adam at 0.01"
    print(f"{head}, sparsity {options.sparsity:g} but dense", flush=True)
    with tempfile.TemporaryDirectory() as storage:
        for picture, written in pictures().items():
            curves[picture] = {}
            for name, mask in masks(options).items():
                found, seconds = curve(written, mask, options, storage)
                curves[picture][name] = found
                peak, at, end, fallen = figures_of(found)
                told = f"-{FALLEN:g} dB from step {fallen}" if fallen else f"never {FALLEN:g} dB below its peak"
                psnr = f"peak {peak:5.2f} dB at {at:4}  end {end:5.2f}  peak - end {peak - end:5.2f}"
                print(f"{picture:9} {name:26} {psnr}  {told}  {seconds:.0f} s", flush=True)
            dense, learned = (figures_of(curves[picture][name])[3] for name in (DENSE, LEARNED))
            if dense is not None and (learned is None or learned > dense):
                later.append(picture)
    print(f"\nthe mask learned at initialization fits the noise later: on {len(later)} of {len(curves)} pictures")
    if options.picture_file is not None:
        draw(curves, options.picture_file)


if __name__ == "__main__":
    main()
