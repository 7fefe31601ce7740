"""The training loop against a bare PyTorch loop, and a masked step against a dense one: ratios within one run.

    python tests/benchmarks/loop_overhead.py | tee tests/benchmarks/records/loop_overhead.log

The four loops take turns over short pieces, so that a change of the machine's speed meets all of them alike; figures
are medians of the pieces' ratios. The bare loop is what a user would write: the data set as one tensor, a permutation
per epoch, the same fused SGD.
"""

from __future__ import annotations

import argparse
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

    def piece() -> None:
        model.train()
        order = torch.randperm(len(split.labels)).to(split.labels.device)
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
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
    parser.add_argument("--steps", type=int, default=9, help="iterations in a piece, at most an epoch")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device(options.device)
    print(f"torch {torch.__version__}, {device}, one thread, {options.data}, batch {options.batch}")
    print(f"{options.pieces} pieces of {options.steps} steps, median [min, max] of the pieces' ratios")
    for model in MODELS:
        loops = []
        for make in (bare, lambda b, s: ours(b, s, None), lambda b, s: ours(b, s, 0.9)):
            setup = setup_of(model, options.data, options.batch, options.data_root, device)
            loops.append(make(setup, min(options.steps, setup.feed().epoch)))
        for loop in loops:
            timed(loop, device)
        times = [[timed(loop, device) for loop in loops] for _ in range(options.pieces)]
        loop_ratio = [dense / plain for plain, dense, _ in times]
        mask_ratio = [masked / dense for _, dense, masked in times]
        milliseconds = 1000 * statistics.median(plain for plain, _, _ in times) / options.steps
        print(
            f"{model:14} bare step {milliseconds:7.3f} ms   our loop / bare {show(loop_ratio)}   "
            f"masked / dense {show(mask_ratio)}",
            flush=True,
        )


def show(ratios: list[float]) -> str:
    """Median, minimum and maximum."""
    return f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"


if __name__ == "__main__":
    main()
