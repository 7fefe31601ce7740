"""Examples that are read by workers while training goes on: what is left of the reading in a step.

    python tests/benchmarks/reading_ahead.py | tee tests/benchmarks/records/reading_ahead.log

Decoding an example costs so many products of matrices that a batch takes one worker about as long as a training step.
Three loops take turns, `--pieces` times each: training on examples in memory, reading alone, and training on examples
that a worker reads. With perfect reading ahead the last takes as long as the larger of the first two. A second figure
compares the training loop with a bare PyTorch loop over torch's own DataLoader, with one worker and cheap examples.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from prune_search.recipe.space import read_space
from prune_search.tasks.task import Task, Whole
from prune_search.training.loop import Course, train
from prune_search.trial.data_and_network import Code
from prune_search.trial.setup import TrialSetup, prepare

BATCH, EXAMPLES, WIDTH, CLASSES = 64, 4096, 256, 10


class Decoded(Dataset[tuple[Tensor, Tensor]]):
    """Examples whose decoding costs `work` products of matrices of 64 x 64."""

    def __init__(self, work: int) -> None:
        source = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(EXAMPLES, WIDTH, generator=source)
        self.labels = torch.randint(CLASSES, (EXAMPLES,), generator=source)
        self.work = work

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        square = torch.eye(64)
        for _ in range(self.work):
            square = square @ square
        return self.inputs[index] * square[0, 0], self.labels[index]


def network() -> nn.Module:
    """A perceptron whose step takes some milliseconds."""
    return nn.Sequential(nn.Linear(WIDTH, 2048), nn.ReLU(), nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, CLASSES))


def setup_of(train_data: object, workers: int) -> TrialSetup:
    """A prepared dense recipe on a task."""
    held = (torch.randn(64, WIDTH), torch.arange(64) % CLASSES)
    task = Whole(Task(model=network, train=train_data, validation=held, workers=workers, digest="benchmark"))
    code = Code(task, task)
    names = code.named()
    sets = [("task.model", names["model"]), ("task.data", names["data"]), ("train.batch", BATCH)]
    return prepare(read_space({"preset": "dense"}, "dense", sets).only_recipe(), torch.device("cpu"), code=code)


def training(setup: TrialSetup, steps: int) -> Callable[[], None]:
    """The project's loop, each call the next steps of the clock."""
    optimizer = setup.optimizer(setup.recipe.optimizer)
    course = Course(optimizer, setup.feed(), 0, lambda step: 0.01)
    done = [0]

    def piece() -> None:
        train(setup.network, course, done[0], done[0] + steps)
        done[0] += steps

    return piece


def reading(setup: TrialSetup, steps: int) -> Callable[[], None]:
    """Batches, and nothing done with them."""
    feed, done = setup.feed(), [0]

    def piece() -> None:
        for number in range(done[0], done[0] + steps):
            feed(number)
        done[0] += steps

    return piece


def bare(steps: int) -> Callable[[], None]:
    """The loop that a user would write, over torch's DataLoader with one worker."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)

    def batches() -> object:
        while True:
            yield from DataLoader(Decoded(0), BATCH, shuffle=True, num_workers=1, drop_last=True)

    source = iter(batches())  # type: ignore[call-overload]

    def piece() -> None:
        model.train()
        for _ in range(steps):
            inputs, labels = next(source)
            loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return piece


def timed(piece: Callable[[], None]) -> float:
    """Seconds of one piece."""
    begun = time.perf_counter()
    piece()
    return time.perf_counter() - begun


def median_of(pairs: list[float]) -> str:
    """Median, minimum and maximum."""
    return f"{statistics.median(pairs):.3f} [{min(pairs):.3f}, {max(pairs):.3f}]"


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=11)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    memory = training(setup_of((Decoded(0).inputs, Decoded(0).labels), 0), options.steps)
    timed(memory)
    step = min(timed(memory) for _ in range(3)) / options.steps
    one = Decoded(50)
    example = min(timed(lambda: void(one[0])) for _ in range(20)) / 50
    work = max(1, round(step / BATCH / example))
    loops = {
        "in memory": memory,
        "reading": reading(setup_of(Decoded(work), 1), options.steps),
        "both": training(setup_of(Decoded(work), 1), options.steps),
        "bare loader": bare(options.steps),
        "our loader": training(setup_of(Decoded(0), 1), options.steps),
    }
    for piece in loops.values():
        timed(piece)
    times = [{name: timed(piece) for name, piece in loops.items()} for _ in range(options.pieces)]
    print(f"torch {torch.__version__}, one thread and one worker, batch {BATCH}, {work} products for an example")
    for name in loops:
        print(f"{name:12} {1000 * statistics.median(found[name] for found in times) / options.steps:7.2f} ms a step")
    ahead = [found["both"] / max(found["in memory"], found["reading"]) for found in times]
    print(f"training with reading / the larger of the two   {median_of(ahead)}")
    cheap = [found["our loader"] / found["bare loader"] for found in times]
    print(f"our loop / bare PyTorch, cheap examples, worker {median_of(cheap)}")


def void(value: object) -> None:
    """Drop a value."""


if __name__ == "__main__":
    main()
