"""The training loop against a bare PyTorch loop, and a masked step against a dense one: ratios within one run.

    python tests/benchmarks/loop_overhead.py | tee tests/benchmarks/records/loop_overhead.log

The three loops take turns over short pieces, in an order that changes with every round, so that a change of the
machine's speed meets all of them alike; figures are medians of the pieces' ratios. A piece lasts about --seconds,
over as many epochs as that takes: a training is thousands of steps, and a piece of nine is mostly its beginning. The
bare loop is what a user would write: the data set as one tensor, a permutation per epoch, the same fused SGD.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from decimal import Decimal

import torch

from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe.blocks import Mask
from prune_search.recipe.space import read_space
from prune_search.tasks.data import DataSet
from prune_search.training.environment import pick_device
from prune_search.training.loop import Course, train
from prune_search.trial.setup import TrialSetup, prepare

MODELS = ("lenet-300-100", "lenet-5", "resnet-20")


def setup_of(model: str, data: str, batch: int, root: str | None, device: torch.device) -> TrialSetup:
    """A prepared dense recipe."""
    from pathlib import Path

    sets = [("task.model", model), ("task.data", data), ("train.batch", batch)]
    recipe = read_space({"preset": "dense"}, "dense", sets).only_recipe()
    return prepare(recipe, device, Path(root) if root else None)


def bare(setup: TrialSetup, steps: int) -> Callable[[], None]:
    """The loop that a user would write."""
    if not isinstance(setup.data, DataSet):
        raise TypeError("the bare loop takes arrays")
    model, split, batch = setup.model, setup.data.train, setup.recipe.train.batch
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)

    epoch = len(split.labels) // batch

    def piece() -> None:
        model.train()
        order = torch.empty(0)
        for step in range(steps):
            if step % epoch == 0:
                order = torch.randperm(len(split.labels)).to(split.labels.device)
            chosen = order[step % epoch * batch : (step % epoch + 1) * batch]
            loss = torch.nn.functional.cross_entropy(model(split.inputs[chosen]), split.labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return piece


def ours(setup: TrialSetup, steps: int, sparsity: float | None) -> Callable[[], None]:
    """The project's loop, dense or under a global magnitude mask."""
    optimizer = setup.optimizer(setup.recipe.optimizer)
    hooks = []
    if sparsity is not None:
        mask = Mask.of({**setup.recipe.mask.written, "criterion": "magnitude"})
        scoring_data = ScoringData(lambda iteration: [], None, 0, 1)
        masks = find_mask(setup.model, MaskRule.of(mask), 1 - Decimal(str(sparsity)), None, scoring_data)
        hooks = [MaskKeeper(setup.model, masks, optimizer).hook()]
    course = Course(optimizer, setup.feed(), 0, lambda step: 0.01, hooks)
    return lambda: void(train(setup.network, course, 0, steps))


def void(value: object) -> None:
    """Drop a value."""


def timed(piece: Callable[[], None], device: torch.device) -> float:
    """Seconds of one piece."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    piece()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pieces", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.5, help="what a piece lasts, about")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device(options.device)
    print(f"torch {torch.__version__}, {device}, one thread, {options.data}, batch {options.batch}")
    print(f"{options.pieces} pieces of about {options.seconds:g} s, median [min, max] of the pieces' ratios")
    for model in options.models:
        setup = setup_of(model, options.data, options.batch, options.data_root, device)
        trial = bare(setup, 20)
        timed(trial, device)
        steps = max(20, math.ceil(20 * options.seconds / timed(trial, device)))
        loops = []
        for make in (bare, lambda b, s: ours(b, s, None), lambda b, s: ours(b, s, 0.9)):
            setup = setup_of(model, options.data, options.batch, options.data_root, device)
            loops.append(make(setup, steps))
        for loop in loops:
            timed(loop, device)
        times: list[dict[int, float]] = []
        for begin in range(options.pieces):
            turn = [(begin + place) % len(loops) for place in range(len(loops))]
            times.append({place: timed(loops[place], device) for place in turn})
        loop_ratio = [piece[1] / piece[0] for piece in times]
        mask_ratio = [piece[2] / piece[1] for piece in times]
        milliseconds = 1000 * statistics.median(piece[0] for piece in times) / steps
        print(
            f"{model:14} bare step {milliseconds:7.3f} ms, {steps:4} steps   our loop / bare {show(loop_ratio)}   "
            f"masked / dense {show(mask_ratio)}",
            flush=True,
        )


def show(ratios: list[float]) -> str:
    """Median, minimum and maximum."""
    return f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"


if __name__ == "__main__":
    main()
