"""How much memory a worker of a sharded trial needs at its start, drawn by layer and drawn whole.

    python tests/benchmarks/sharded_start.py | tee tests/benchmarks/records/sharded_start.log

Two workers, each a process with one thread, prepare the same recipe by gloo on this machine, once as it is done and
once with every worker drawing the whole network. Printed is by how much the resident memory of each process rose at
most (VmHWM of Linux), in MB of 10^6 bytes, and whether both networks have the same bits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from prune_search.recipe.space import read_space
from prune_search.tasks.workers import Workers
from prune_search.trial import setup
from prune_search.trial.split_start import SplitStart

SIZE, KINDS = 2, ("by layer", "whole")


def resident(word: str) -> float:
    """A figure of this process in MB: ``VmRSS`` now, ``VmHWM`` at most since it was reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024 / 1e6


def worker(rank: int, folder: str, kind: str, layers: int, width: int) -> None:
    """Prepare the recipe as one of the workers, and print what it took."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{kind}", rank=rank, world_size=SIZE)
    workers = Workers.joined()

    def prepared(hidden: list[int]) -> setup.TrialSetup:
        sets = {"task.model": {"name": "mlp", "hidden": hidden}, "task.data": "digits"}
        recipe = read_space({"preset": "dense"}, "dense", [*sets.items()]).only_recipe()
        return setup.prepare(recipe, torch.device("cpu"), workers=workers, sharded=True)

    # What is imported on the way is not counted.
    prepared([8])
    before = resident("VmRSS")

    def divided(self: SplitStart, device: torch.device, start: Callable[[nn.Module], object]) -> None:
        divide(self, device, start)
        print(f"{kind}, worker {rank}: {resident('VmHWM') - before:.0f} MB at most until it is divided", flush=True)

    divide, SplitStart.divide = SplitStart.divide, divided  # type: ignore[method-assign]
    if kind == "whole":
        vars(setup)["split_start"] = lambda *_: None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    made = prepared([width] * layers)
    rose = resident("VmHWM") - before
    sizes = sorted(one.numel() * one.element_size() / 1e6 for one in made.model.parameters())
    told = f"{kind}, worker {rank}: {rose:.0f} MB at most, {resident('VmRSS') - before:.0f} MB at the end"
    print(f"{told} (network {sum(sizes):.0f} MB, largest layer {sizes[-1]:.1f} MB)", flush=True)
    print(f"{kind}, worker {rank}: network {made.digests['network'][:16]}", flush=True)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=1900)
    parser.add_argument("--worker", nargs=3, metavar=("RANK", "FOLDER", "KIND"))
    asked = parser.parse_args()
    if asked.worker:
        rank, folder, kind = asked.worker
        worker(int(rank), folder, kind, asked.layers, asked.width)
        return
    sizes = ["--layers", str(asked.layers), "--width", str(asked.width)]
    # Else glibc keeps what was freed, and resident memory does not say what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            started = [
                subprocess.Popen(
                    [sys.executable, __file__, *sizes, "--worker", str(rank), folder, kind],
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for rank in range(SIZE)
            ]
            for one in started:
                print(one.communicate()[0], end="", flush=True)
            if any(one.returncode for one in started):
                sys.exit(1)


if __name__ == "__main__":
    main()
