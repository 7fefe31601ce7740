"""How long a training waits for its states: a network of 100 MB with momentum, one state after every six steps.

    python tests/benchmarks/waiting_for_states.py [--megabytes 100] [--storage FOLDER]

Prints the seconds of the steps alone, and what three states add to them: as it is, and where each is waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from prune_search.tasks.data import Split
from prune_search.training import background
from prune_search.training.loop import Course, Feed, Network
from prune_search.training.segment import Segment, model_tensors
from prune_search.training.state_store import StateStore, Steps

WIDTH, EVERY, TOTAL = 2500, 6, 18


def main() -> None:
    """Print the three figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--storage", type=Path)
    given = parser.parse_args()
    layers = max(1, round(given.megabytes * 1e6 / (4 * WIDTH * WIDTH)))
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)), nn.Linear(WIDTH, 10))
    network = Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)
    feed = Feed(Split(torch.randn(256, WIDTH), torch.arange(256) % 10), 8, 0)
    begin = model_tensors(model)

    def seconds(folder: Path | None, address: str) -> float:
        def course() -> Course:
            return Course(torch.optim.SGD(model.parameters(), 0.001, momentum=0.9), feed, 0, lambda step: 0.001)

        asked = tuple(range(EVERY, TOTAL, EVERY))
        store = StateStore(folder, Steps())
        begun = time.perf_counter()
        Segment("train", address * 64, TOTAL, lambda: begin, course, network, store, asked).end()
        return time.perf_counter() - begun

    size = sum(tensor.nbytes for tensor in begin.values()) / 1e6
    with tempfile.TemporaryDirectory(dir=given.storage) as name:
        seconds(None, "0")
        alone = seconds(None, "0")
        beside = seconds(Path(name), "a")
        start = background.Background.start

        def waiting(self: background.Background, job: object, done: object) -> None:
            start(self, job, done)  # type: ignore[arg-type]
            self.wait()

        background.Background.start = waiting  # type: ignore[method-assign]
        waited = seconds(Path(name), "b")
    count = TOTAL // EVERY
    print(f"a network of {size:.0f} MB, {TOTAL} steps: {alone:.1f} s; {count} states of up to {2 * size:.0f} MB add")
    print(f"  {waited - alone:5.1f} s where each is waited for")
    print(f"  {beside - alone:5.1f} s written beside the training")


if __name__ == "__main__":
    main()
