"""A training step by several workers against the same step by one: time, bytes on the wire, and what overlaps.

    python tests/benchmarks/data_parallel.py | tee tests/benchmarks/records/data_parallel.log

Each worker is a process with one thread; they talk by gloo on this machine. In turn one worker takes some steps alone,
all take the same steps with DDP, and all take them as with a parameter server, which this project had before: the first
worker sends its weights to the others, and the gradients are summed there. Bytes are those that the kernel counts on
the workers' sockets. What an all-reduce of the gradients moves is counted in the same way.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from prune_search.recipe.space import read_space
from prune_search.tasks.workers import FIRST, Workers
from prune_search.training.loop import Course, Feed, Network, pass_over, seed_layers, train
from prune_search.trial.setup import TrialSetup, prepare

# Offsets in Linux's struct tcp_info.
ACKED, RECEIVED, INFO_BYTES = 120, 128, 232


def setup_of(workers: Workers, layers: int, width: int, batch: int) -> TrialSetup:
    """A prepared dense recipe."""
    sets = {"task.model": {"name": "mlp", "hidden": [width] * layers}, "task.data": "digits", "train.batch": batch}
    return prepare(
        read_space({"preset": "dense"}, "dense", [*sets.items()]).only_recipe(), torch.device("cpu"), workers=workers
    )


def by_server(workers: Workers) -> Callable[[Network, Feed, int], Tensor]:
    """Gradients as with a parameter server: weights go to the others, and gradients come back."""

    def gradients(network: Network, feed: Feed, number: int) -> Tensor:
        parameters = list(network.model.parameters())
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        dist.broadcast(flat, FIRST)
        with torch.no_grad():
            for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
                parameter.copy_(part.reshape(parameter.shape))
        seed_layers(network.device, number)
        inputs, labels, share = workers.share(*feed(number))
        loss = network.loss(network.model(inputs), labels) * share
        loss.backward()  # type: ignore[no-untyped-call]
        flat = torch.cat([loss.detach().reshape(1), *(p.grad.reshape(-1) for p in parameters if p.grad is not None)])
        dist.reduce(flat, FIRST)
        total, *sums = torch.split(flat, [1, *(p.numel() for p in parameters)])
        for parameter, part in zip(parameters, sums, strict=True):
            parameter.grad = part.reshape(parameter.shape)
        return total.squeeze(0)

    return gradients


def moved() -> int:
    """Bytes that this process's TCP connections have sent (and the other side has) or received."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.type == socket.SOCK_STREAM and one.family in (socket.AF_INET, socket.AF_INET6):
                    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
                    total += struct.unpack_from("<Q", info, ACKED)[0] + struct.unpack_from("<Q", info, RECEIVED)[0]
    return total


def counted(workers: Workers, what: Callable[[], object]) -> int:
    """Bytes that a worker sends and receives in something, the mean of all workers."""
    dist.barrier()
    before = moved()
    what()
    dist.barrier()
    time.sleep(0.1)
    return round(workers.sums([float(moved() - before)])[0] / workers.size)


def overlap(step: Callable[[], object]) -> list[tuple[float, float]]:
    """When each reduction of one step began and ended, as shares of its backward pass from 0 to 1."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    events = list(found.events())
    backward = [event.time_range for event in events if event.name.startswith("autograd::engine::evaluate_function")]
    start, end = min(one.start for one in backward), max(one.end for one in backward)
    spans = [event.time_range for event in events if event.name == "gloo:all_reduce"]
    return [((one.start - start) / (end - start), (one.end - start) / (end - start)) for one in spans]


def work(rank: int, size: int, file: str, given: argparse.Namespace) -> None:
    """What every worker runs; the first one prints."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
    workers = Workers.joined()
    setup = setup_of(workers, given.layers, given.width, given.batch)
    networks = {
        "one worker": replace(setup.network, gradients=pass_over),
        "ddp": setup.network,
        "parameter server": replace(setup.network, gradients=by_server(workers)),
    }
    optimizer = setup.optimizer(setup.recipe.optimizer)

    def piece(kind: str, steps: int) -> None:
        train(networks[kind], Course(optimizer, setup.feed(), 0, lambda step: 0.01), 0, steps)

    def timed(kind: str, steps: int) -> float:
        """Seconds of a step; whoever takes no part waits."""
        dist.barrier()
        begun = time.perf_counter()
        if kind != "one worker" or workers.first:
            piece(kind, steps)
        workers.agreed(lambda: None)
        return (time.perf_counter() - begun) / steps

    for kind in networks:
        timed(kind, 1)
    times: dict[str, list[float]] = {kind: [] for kind in networks}
    for _ in range(given.pieces):
        for kind, found in times.items():
            found.append(timed(kind, given.steps))
    gradients = torch.zeros(sum(parameter.numel() for parameter in setup.model.parameters()))
    plain = counted(workers, lambda: dist.all_reduce(gradients))
    bytes_of = {
        kind: counted(workers, functools.partial(piece, kind, given.steps)) / given.steps
        for kind in times
        if kind != "one worker"
    }
    spans = overlap(lambda: piece("ddp", 1))
    if not workers.first:
        dist.destroy_process_group()
        return
    print(f"torch {torch.__version__}, {size} workers of one thread by gloo, {os.cpu_count()} cores shared with others")
    shape = f"mlp of {given.layers} x {given.width}, {gradients.numel():,} weights"
    print(f"{shape}, batch {given.batch}, digits; gradients {gradients.nbytes / 1e6:.1f} MB")
    print(f"{given.pieces} turns of {given.steps} steps; median step; one worker's step / this one: median [min, max]")
    for kind, found in times.items():
        ratios = [alone / own for alone, own in zip(times["one worker"], found, strict=True)]
        spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
        print(f"  {kind:17s} {statistics.median(found) * 1e3:7.1f} ms   x {statistics.median(ratios):.2f} {spread}")
    print(f"bytes sent and received per worker: an all-reduce of the gradients {plain / 1e6:.2f} MB")
    for kind, count in bytes_of.items():
        print(f"  {kind:17s} {count / 1e6:7.2f} MB per step   x {count / plain:.3f}")
    print("reductions of a ddp step, in time of its backward pass (0 to 1):")
    for start, end in spans:
        print(f"  {start:6.2f} to {end:.2f}")
    inside = sum(max(0.0, min(end, 1.0) - max(start, 0.0)) for start, end in spans)
    print(f"  {inside / sum(end - start for start, end in spans):.0%} of their time lies within it")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--pieces", type=int, default=7)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(int(given.worker[0]), given.workers, given.worker[1], given)
        return
    with tempfile.TemporaryDirectory() as folder:
        meet = str(Path(folder) / "meet")
        command = [sys.executable, *sys.argv, "--worker"]
        started = [subprocess.Popen([*command, str(rank), meet]) for rank in range(given.workers)]
        sys.exit(max(one.wait() for one in started))


if __name__ == "__main__":
    main()
