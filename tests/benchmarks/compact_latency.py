"""Measured latency beside the ratio of operations: dense, masked and compact, half of the channels gone.

    python tests/benchmarks/compact_latency.py --networks resnet-56 vgg-16-bn --batches 8 \
        | tee tests/benchmarks/records/compact_latency.log

Random weights of ResNet-56 (projection shortcuts), VGG-16 with batch normalisation and MobileNet (width 1) on
32x32 pictures. `channel` removes half of the channels of every layer (uniform scope, L1), `weight` half of the weights.
The three networks take turns; a figure is the median over the passes with its quartiles. A ratio is called a speed-up
only where the noise bars are apart.

On Linux, malloc gives memory back to the system after a pass and asks for it again in the next one: how much differs
between networks that compute the same, and can cost half of a pass. Kept in the process, it does not:

    MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_MMAP_THRESHOLD_=1000000000 python tests/benchmarks/compact_latency.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import nn

import prune_search
from prune_search.compact.cutting import compact
from prune_search.compact.flops import flops
from prune_search.compact.latency import latencies, machine_name
from prune_search.recipe.axes import MODELS

SHAPE = (3, 32, 32)
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet-56": {"width": 16, "shortcut": "projection", "residual_scale": "one"},
    "vgg-16-bn": {},
    "mobilenet": {"width": 1.0},
}


def made(name: str) -> nn.Module:
    """A network of which no normalization is at its plain start."""
    torch.manual_seed(0)
    model: nn.Module = MODELS[name].make(SHAPE, 10, **NETWORKS[name])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.1)
    return model.eval()


def line(name: str, granularity: str, batch: int, device: torch.device) -> str:
    """One row of the table."""
    inputs = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(0))
    dense, masked = made(name), made(name)
    found = prune_search.find_mask(
        masked, criterion="l1", sparsity=0.5, granularity=granularity, scope="uniform", batches=[(inputs[:2], None)]
    )
    found.apply(masked)
    small = compact(masked, SHAPE)
    with torch.no_grad():
        expected = masked(inputs[:8])
        apart = float((small(inputs[:8]) - expected).abs().max() / expected.abs().max())
    share = flops(small, inputs[:1]) / flops(dense, inputs[:1])
    networks = {"dense": dense, "masked": masked, "compact": small}
    networks = {key: network.to(device) for key, network in networks.items()}
    if device.type == "cuda":
        networks = {key: network.to(memory_format=torch.channels_last) for key, network in networks.items()}  # type: ignore[call-overload]
    taken = latencies(networks, inputs.to(device))
    bars = "".join(f"{one.median:9.2f} [{one.low:7.2f}, {one.high:7.2f}]" for one in taken.values())
    ratio = taken["compact"].median / taken["dense"].median
    faster = "yes" if taken["compact"].faster_than(taken["dense"]) else "no"
    return f"{name:10s} {granularity:8s} {batch:5d} {bars} {ratio:7.2f}x {share:6.2f}x {faster:>7s} {apart:9.0e}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    print(f"{machine_name(device)}, {given.threads} threads, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print("milliseconds of a forward pass: median [quartiles]; compact/dense: latency and operations\n")
    head = "".join(f"{name:>9s} {'':18s}" for name in ("dense", "masked", "compact"))
    print(f"{'network':10s} {'units':8s} {'batch':>5s} {head}{'latency':>8s} {'ops':>7s} {'faster':>7s} {'apart':>9s}")
    for name in given.networks:
        for granularity in ("channel", "weight"):
            for batch in given.batches:
                print(line(name, granularity, batch, device), flush=True)


if __name__ == "__main__":
    main()
