"""One worker, a process of its own: ``sharded_worker.py RANK SIZE FOLDER masks|training|store|read|refusals``.

All workers run the same code; the first one prints what it found.

``masks``: masks of sharded networks, and of the same ones whole, by criterion, scope and granularity.
``training``: networks that are trained, pruned, trained on and pruned gradually, sharded and whole.
``store``: what is trained under a mask, with torch.distributed.checkpoint below FOLDER; ``read``: by other workers.
``refusals``: what is said of what needs whole networks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from worker_processes import answer

import prune_search
from prune_search import Dynamics, MaskHook, UserError, find_mask
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe.axes import OPTIMIZERS
from prune_search.storage.digests import weights_digest
from prune_search.tasks.blocks import repeated_modules
from prune_search.tasks.data import Split
from prune_search.tasks.workers import ALONE, Workers
from prune_search.training.accumulation import accumulated
from prune_search.training.clipping import clipping
from prune_search.training.data_parallel import DataParallel
from prune_search.training.loop import Course, Feed, Hook, Network, pass_over, train

Masked = dict[str, Any]


class Small(nn.Module):
    """A convolution, blocks, and a gate of a single row, of which the second worker holds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 6, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Linear(24, 24) for _ in range(2))
        self.middle = nn.Sequential(nn.Flatten(), nn.Linear(96, 24))
        self.gate = nn.Linear(24, 1)
        self.head = nn.Linear(24, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.middle(torch.nn.functional.max_pool2d(self.first(inputs), 2).relu())
        for block in self.blocks:
            hidden = hidden + block(hidden).relu()
        found: Tensor = self.head(hidden * self.gate(hidden).sigmoid())
        return found


def network() -> nn.Module:
    torch.manual_seed(0)
    model = Small()
    with torch.no_grad():
        # Many equal sizes, on both sides of every border between workers.
        for parameter in model.parameters():
            parameter.copy_((parameter * 20).round() / 20 + 1e-3 * torch.randn_like(parameter).round())
    return model


def sharded(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for module in repeated_modules(model):
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def split() -> Split:
    source = torch.Generator().manual_seed(9)
    return Split(torch.randn(64, 4, 8, 8, generator=source), torch.randint(3, (64,), generator=source))


def found(mask: MaskSet, workers: Workers) -> Masked:
    """What is compared of a mask."""
    sha256 = mask.sha256
    # Everything else is asked for by one worker alone, who would wait for ever if that took the others.
    told = mask.receipt() if workers.first else workers.agreed(lambda: None)
    if told is None:
        return {}
    workers.agreed(lambda: None)
    return {
        "sha256": sha256,
        "kept": dict(mask.kept),
        "asked": [told.asked, told.units_asked],
        "reached": [told.reached, told.units_kept, told.sparsity_of_all_parameters],
        "left_out": dict(mask.left_out),
    }


CASES: Mapping[str, Mapping[str, Any]] = {
    "magnitude": {"sparsity": 0.9},
    "keeps ties": {"sparsity": 0.6, "ties": "keep"},
    "l2": {"criterion": "l2", "sparsity": 0.5, "scope": "uniform"},
    "random": {"criterion": "random", "sparsity": 0.7},
    "erk": {"sparsity": 0.8, "scope": "erk", "rounding": "floor-keep"},
    "floors": {"sparsity": 0.97, "scope": {"name": "global", "least": 5, "exclude": ["head"]}},
    "2:4": {"granularity": "2:4"},
    "3 of 8": {"criterion": "l1", "granularity": {"name": "n-of-m", "n": 3, "m": 8}},
    "snip": {"criterion": "snip", "sparsity": 0.9},
    "iterated": {"criterion": "snip", "sparsity": 0.9, "schedule": {"name": "exponential", "iterations": 4}},
    "force": {"criterion": "snip", "sparsity": 0.9, "schedule": {"name": "linear", "iterations": 3}, "nested": False},
    "flow": {"criterion": "synflow", "sparsity": 0.9, "schedule": {"name": "exponential", "iterations": 3}},
}


def masks(workers: Workers) -> dict[str, Any]:
    """Every case; in float64 where gradients are summed in another order."""
    data, results = split(), {}
    for name, options in CASES.items():
        gradients = options.get("criterion") in ("snip", "synflow")
        batches = [(data.inputs[at : at + 16].double(), data.labels[at : at + 16]) for at in range(0, 64, 16)]
        own = [batch for batch, _ in workers.dealt(batches)]
        pair = []
        for model, given in ((sharded(network().double()), own), (network().double(), batches)):
            model.eval() if not gradients else model.train()
            # A sharded root keeps its own weights whole behind it.
            with torch.no_grad():
                model(data.inputs[:4].double())
            find_mask(model, "all", 0.0).apply(model)
            before = [parameter.detach().clone() for parameter in model.parameters()]
            mask = find_mask(model, **({**options, "batches": given} if gradients else options))
            assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
            assert all(parameter.grad is None for parameter in model.parameters())
            pair.append(found(mask, workers))
        results[name] = pair
    return results


def course(model: nn.Module, name: str, first: int, hooks: list[Hook]) -> Course:
    optimizer = OPTIMIZERS[name].make(list(model.parameters()), 0.02, weight_decay=0.01)
    return Course(optimizer, Feed(split(), 13, 3), first, lambda step: 0.02, hooks)


def trained(model: nn.Module, name: str, gradients: Callable[[Network, Feed, int], Tensor]) -> dict[str, Any]:
    """A network that is trained, pruned by magnitude and trained on, with accumulated batches and clipped gradients."""
    net = Network(model, torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy, gradients)
    losses: list[float] = []

    def note(step: int, loss: Tensor) -> None:
        losses.append(float(loss.detach()))

    train(net, course(model, name, 0, []), 0, 4, note)
    mask = find_mask(model, sparsity=0.8)
    again = course(model, name, 4, [])
    keeper = MaskKeeper(model, mask, again.optimizer)
    hooks = [keeper.hook(), clipping(list(model.parameters()), 0.5)]
    train(net, Course(again.optimizer, again.feed, 4, again.rate, hooks), 0, 4, note)
    weights = dict(model.named_parameters())
    held = []
    for key, one in mask.items():
        state = [value for value in again.optimizer.state[weights[key]].values() if value.shape == one.shape]
        held += [bool((value.detach().masked_fill(one, 0.0) == 0).all()) for value in (weights[key], *state)]
    return {"mask": mask.sha256, "losses": losses, "held": held, "kept": sum(mask.kept.values())}


MOVING: Mapping[str, Mapping[str, Any]] = {
    "gradual": {"begin": 0, "end": 6, "every": 2},
    "rigl": {"steps": 8, "every": 3},
}


def moving(name: str, model: nn.Module, workers: Workers) -> dict[str, Any]:
    """A loop of one's own: each worker passes over its part of a batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    dynamics = Dynamics(name, model, optimizer, sparsity=0.9, **MOVING[name])
    data, kept, losses = split(), [], []
    for step in range(8):
        optimizer.zero_grad()
        inputs, labels, _ = workers.share(data.inputs, data.labels)
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        dynamics.step(step)
        kept.append(sum(dynamics.mask.kept.values()))
        losses.append(workers.sums([float(loss.detach()) / workers.size])[0])
    return {"mask": dynamics.finish().sha256, "kept": kept, "losses": losses}


def training(workers: Workers) -> dict[str, Any]:
    """Each training sharded and whole."""
    ways = {
        f"{name}, {count} batches": [
            trained(sharded(network()), name, DataParallel(workers, count).gradients),
            trained(network(), name, accumulated(pass_over, count)),
        ]
        for name, count in (("sgd", 1), ("adamw", 2))
    }
    moved = {name: [moving(name, sharded(network()), workers), moving(name, network(), ALONE)] for name in MOVING}
    return {**ways, **moved}


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, workers: Workers, count: int) -> list[float]:
    data, losses = split(), []
    for _ in range(count):
        optimizer.zero_grad()
        inputs, labels, _part = workers.share(data.inputs, data.labels)
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(workers.sums([float(loss.detach()) / workers.size])[0])
    return losses


def state(model: nn.Module, optimizer: torch.optim.Optimizer, mask: MaskSet) -> dict[str, Any]:
    weights, buffers = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": buffers, "mask": dict(mask)}


def digests(stored: Mapping[str, Any], mask: MaskSet) -> list[str]:
    momentum = {name: one["momentum_buffer"] for name, one in stored["optimizer"]["state"].items()}
    return [weights_digest(stored["model"]), weights_digest(momentum), mask.sha256]


def store(workers: Workers, folder: Path) -> dict[str, Any]:
    model = sharded(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    mask = find_mask(model, sparsity=0.8)
    MaskHook(optimizer, model, mask)
    steps(model, optimizer, workers, 2)
    stored = state(model, optimizer, mask)
    save(stored, checkpoint_id=folder)
    return {"digests": digests(stored, mask), "losses": steps(model, optimizer, workers, 2), "kept": dict(mask.kept)}


def read(workers: Workers, folder: Path) -> dict[str, Any]:
    """What `store` has stored, read by however many workers there are now."""
    torch.manual_seed(5)
    model = sharded(Small())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    mask = find_mask(model, criterion="all", sparsity=0.0)
    stored = state(model, optimizer, mask)
    load(stored, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=stored["model"], optim_state_dict=stored["optimizer"])
    mask = MaskSet(stored["mask"])
    MaskHook(optimizer, model, mask)
    told = digests(state(model, optimizer, mask), mask)
    return {"digests": told, "losses": steps(model, optimizer, workers, 2), "kept": dict(mask.kept)}


LAST = {"name": "global", "exclude": ["last"]}


def refusals(workers: Workers) -> dict[str, Any]:
    """One sentence each, of every worker the same."""
    model, data = sharded(network()), split()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    batches = [(data.inputs[:8], data.labels[:8])]
    partly = network()
    fully_shard(partly.get_submodule("middle"))
    calls: dict[str, Callable[[], Any]] = {
        "criterion": lambda: find_mask(model, "grasp", 0.5, batches=batches),
        "granularity": lambda: find_mask(model, "l1", 0.5, granularity="filter", batches=batches),
        "several": lambda: find_mask(model, "lamp", 0.5, normalization="l2", scope=LAST),
        "budget": lambda: find_mask(model, "l1", {"budget": {"parameters": 0.5}}, batches=batches),
        "score": lambda: prune_search.score("magnitude", model),
        "snfs": lambda: Dynamics("snfs", model, optimizer, sparsity=0.5, steps=10, every=2),
        "partly": lambda: find_mask(partly, sparsity=0.5),
    }
    said = {}
    for name, call in calls.items():
        try:
            call()
        except UserError as error:
            said[name] = str(error)
    return said


RUNS: dict[str, Callable[[Workers, Path], dict[str, Any]]] = {
    "masks": lambda workers, folder: masks(workers),
    "training": lambda workers, folder: training(workers),
    "refusals": lambda workers, folder: refusals(workers),
    "store": store,
    "read": read,
}

if __name__ == "__main__":
    answer(lambda name, folder: RUNS[name](Workers.joined(), folder / "state"))
