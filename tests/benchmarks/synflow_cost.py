"""A SynFlow mask of a hundred iterations in dense training steps, beside the published loop: ratios within one run.

    python tests/benchmarks/synflow_cost.py | tee tests/benchmarks/records/synflow_cost.log

ResNet-20 on pictures of 32x32, one thread. Pieces of dense steps at batch 32 take turns with whole mask searches, in
processor time, so that other work on the machine meets all of them alike; figures are medians of the pieces' ratios.
The published loop is written down from the paper: signs taken out and put back, one backward pass, a threshold.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from decimal import Decimal

import torch
from torch import nn

from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.recipe.blocks import Mask
from prune_search.tasks.models.networks.resnet import ResNet

ITERATIONS, KEEP = 100, 0.02
SHAPE = (3, 32, 32)


def dense_steps(model: nn.Module, batch: int, steps: int) -> Callable[[], None]:
    """Plain training steps."""
    inputs, labels = torch.randn(batch, *SHAPE), torch.randint(10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)

    def piece() -> None:
        model.train()
        for _ in range(steps):
            loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return piece


def ours(model: nn.Module, dtype: str) -> Callable[[], None]:
    """The project's search for the mask."""
    score = {"iterations": ITERATIONS, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy"}
    criterion = {"name": "synflow", "dtype": dtype}
    named = {"criterion": criterion, "scope": "global", "granularity": "weight"}
    mask = Mask.of({"at": "end", **named, "score": {**score, "mode": "eval"}})
    scoring_data = ScoringData(lambda _: [], None, 0, 1, lambda: torch.zeros(1, *SHAPE))
    rule = MaskRule.of(mask)

    def search() -> None:
        find_mask(model, rule, Decimal(str(KEEP)), None, scoring_data)

    return search


def published(model: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """The loop of the paper."""

    def search() -> None:
        net = copy.deepcopy(model).to(dtype).eval()
        weights = [parameter for parameter in net.parameters() if parameter.dim() > 1]
        dense = [weight.detach().clone() for weight in weights]
        masks = [torch.ones_like(weight) for weight in weights]
        for t in range(1, ITERATIONS + 1):
            with torch.no_grad():
                for weight, whole, mask in zip(weights, dense, masks, strict=True):
                    weight.copy_(whole * mask)
                signs = {name: tensor.sign() for name, tensor in net.state_dict().items()}
                for tensor in net.state_dict().values():
                    tensor.abs_()
            net(torch.ones(1, *SHAPE, dtype=dtype)).sum().backward()
            scores = [(w.grad * w).detach().clone() for w in weights if w.grad is not None]
            net.zero_grad()
            with torch.no_grad():
                for name, tensor in net.state_dict().items():
                    tensor.mul_(signs[name])
            ranked = torch.cat([score.flatten() for score in scores])
            drop = int((1 - KEEP ** (t / ITERATIONS)) * ranked.numel())
            border = ranked.kthvalue(drop).values
            masks = [(score > border).to(dtype) for score in scores]

    return search


def timed(piece: Callable[[], None]) -> float:
    """Processor seconds of one piece."""
    begun = time.process_time()
    piece()
    return time.process_time() - begun


def main() -> None:
    """Print one line per way of searching."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="dense steps in a piece")
    parser.add_argument("--pieces", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ResNet(SHAPE[0], 10, blocks=3, width=16, projection=False, scale=1.0)
    ways = {
        "ours, float64": ours(model, "float64"),
        "ours, float32": ours(model, "float32"),
        "published loop, float64": published(model, torch.float64),
        "published loop, float32": published(model, torch.float32),
    }
    # A copy is trained, so that every search sees the same weights.
    dense = dense_steps(copy.deepcopy(model), options.batch, options.steps)
    print(f"torch {torch.__version__}, cpu, one thread, ResNet-20, 32x32, batch {options.batch}")
    print(f"{ITERATIONS} iterations to {KEEP:.0%} of the weights")
    print(f"{options.pieces} pieces, in dense training steps: median [min, max]")
    for piece in (dense, *ways.values()):
        timed(piece)
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.pieces):
        for name, way in ways.items():
            step = timed(dense) / options.steps
            ratios[name].append(timed(way) / step)
    for name, found in ratios.items():
        print(f"{name:24} {statistics.median(found):5.1f} [{min(found):.1f}, {max(found):.1f}]", flush=True)


if __name__ == "__main__":
    main()
