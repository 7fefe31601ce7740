"""One worker, a process of its own: ``data_parallel_worker.py RANK SIZE FILE [lost|taught|fused]``.

The leader prints what it found.

With ``lost`` the second worker dies in the middle of a step; with ``taught`` the loss asks a teacher; with
``fused`` layers of the leader's network are fused, and later no more.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import sys
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from prune_search.recipe.axes import AUGMENTATIONS, LOSSES
from prune_search.storage.digests import weights_digest
from prune_search.tasks.data import Split
from prune_search.tasks.fusion import RECORD, Fused, restructured
from prune_search.training.accumulation import accumulated
from prune_search.training.data_parallel import Leader, WorkerGroup, follow
from prune_search.training.loop import Feed, Network, WorkerLostError, pass_over
from prune_search.training.teaching import Teaching


class Small(nn.Module):
    """Convolutions with BatchNorm of all kinds of momentum, a branch that nobody takes, and a frozen weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6, momentum=None, affine=False))
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(54, 8), nn.BatchNorm1d(8, track_running_stats=False))
        self.head = nn.Linear(8, 5)
        self.unused = nn.Linear(3, 3)
        self.head.bias.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.last(self.second(self.first(inputs)).relu()))
        return found


def network() -> Network:
    torch.manual_seed(0)
    return Network(Small(), torch.device("cpu"), contextlib.nullcontext, nn.functional.cross_entropy)


def feed(*words: str | int) -> Feed:
    source = torch.Generator().manual_seed(9)
    # A mean far from 0, where squares minus the square of the mean would lose their digits.
    split = Split(torch.randn(60, 1, 8, 8, generator=source) + 100.0, torch.randint(5, (60,), generator=source))
    return Feed(split, 13, 3, words, lambda inputs, draw: AUGMENTATIONS["crop-flip"].make(inputs, draw, pad=1))


def doubled(split: object) -> Split:
    """Examples in float64."""
    assert isinstance(split, Split)
    return Split(split.inputs.double(), split.labels)


def lead(worker_group: WorkerGroup) -> dict[str, Any]:
    """Three steps of gradient descent by all workers, and by this one alone in float64 and in float32."""
    leader, together = Leader(worker_group), network()
    alone, exact = network(), network()
    exact.model.double()
    errors: dict[str, float] = {}
    own: dict[str, float] = {}
    for number in range(3):
        if number == 1:
            for net in (together, alone, exact):
                net.model.get_parameter("head.bias").requires_grad_(True)
        stream = feed("here", number)
        precise = copy.deepcopy(stream)
        precise.split = doubled(stream.split)
        losses = [
            leader.gradients(together, stream, number),
            pass_over(alone, stream, number),
            pass_over(exact, precise, number),
        ]
        note(errors, "loss", losses[0], losses[2])
        note(own, "loss", losses[1], losses[2])
        step(together, exact, errors)
        step(alone, exact, own)
        for net in (together, alone, exact):
            descend(net)
    for (name, mine), theirs, true in zip(
        together.model.named_buffers(), alone.model.buffers(), exact.model.buffers(), strict=True
    ):
        note(errors, name, mine, true)
        note(own, name, theirs, true)
    state = weights_digest(together.model.state_dict())
    leader.check(together.model, state)
    with contextlib.suppress(RuntimeError):
        leader.check(together.model, "another")
        errors["check"] = 1.0
    unused = together.model.get_parameter("unused.bias")
    leader.end()
    return {"errors": errors, "own": own, "unused": unused.grad is None, "broken": leader.broken}


def lose(worker_group: WorkerGroup) -> dict[str, Any]:
    """A step with a worker that dies in the middle of it."""
    leader = Leader(worker_group)
    try:
        leader.gradients(network(), feed("here"), 0)
    except WorkerLostError as error:
        return {"said": str(error), "broken": leader.broken}
    return {}


def master() -> nn.Module:
    """A teacher whose outputs do not depend on what else is in the batch: every norm has running figures."""
    model = Small()
    model.last[2] = nn.BatchNorm1d(8)
    return model


def taught(role: str, seed: int = 1, whole: Network | None = None) -> Network:
    """A network with a teacher in one role; only the leader's teacher has the right weights."""
    net = whole or network()
    if role != "retrain":
        return net
    torch.manual_seed(seed)
    made = functools.partial(LOSSES["distillation"].make, features="last", weight=0.8)
    teaching = Teaching(master, nn.functional.cross_entropy, made, ("head", "head"))
    _ = teaching.teacher
    gradients = teaching.gradients(pass_over)
    return replace(net, loss=teaching.loss, gradients=gradients, role=role, teaching=teaching)


def lead_taught(worker_group: WorkerGroup) -> dict[str, Any]:
    """A step without a teacher, and two accumulated ones with it, by all workers and by this one alone."""
    leader = Leader(worker_group)
    errors: dict[str, float] = {}
    own: dict[str, float] = {}
    for role, number in (("", 0), ("retrain", 1), ("retrain", 2)):
        alone, exact, together = taught(role), taught(role), taught(role)
        gradients = accumulated(leader.gradients, 2)
        if together.teaching is not None:
            gradients = together.teaching.gradients(gradients)
        exact.model.double()
        if exact.teaching is not None:
            exact.teaching.teacher.double()
        precise = feed("here")
        precise.split = doubled(precise.split)
        losses = [
            replace(together, gradients=gradients).gradients(together, feed("here"), number),
            accumulated(alone.gradients, 2)(alone, feed("here"), number),
            accumulated(exact.gradients, 2)(exact, precise, number),
        ]
        note(errors, f"{role} loss", losses[0], losses[2])
        note(own, f"{role} loss", losses[1], losses[2])
        step(together, exact, errors)
        step(alone, exact, own)
    leader.end()
    return {"errors": errors, "own": own}


def lead_fused(worker_group: WorkerGroup) -> dict[str, Any]:
    """A step of the network, one with its last layers fused, and one of the network again."""
    leader, together = Leader(worker_group), network()
    dense = {name: tensor.clone() for name, tensor in together.model.state_dict().items()}
    record = Fused("Linear", {"in_features": 54, "out_features": 5, "bias": True}, ("last.1", "last.2"), {})
    fused = {name: tensor for name, tensor in dense.items() if not name.startswith(("last.1", "last.2"))}
    weight = torch.randn(5, 54, generator=torch.Generator().manual_seed(1))
    fused |= {"head.weight": weight, f"head.{RECORD}": record.encoded()}
    errors: dict[str, float] = {}
    own: dict[str, float] = {}
    for number, tensors in enumerate((dense, fused, dense)):
        alone, exact = network(), network()
        for net in (together, alone, exact):
            restructured(net.model, tensors)
            net.model.load_state_dict(tensors)
            net.model.zero_grad()
        exact.model.double()
        stream = feed("here", number)
        precise = copy.deepcopy(stream)
        precise.split = doubled(stream.split)
        losses = [
            leader.gradients(together, stream, number),
            pass_over(alone, stream, number),
            pass_over(exact, precise, number),
        ]
        note(errors, f"loss {number}", losses[0], losses[2])
        note(own, f"loss {number}", losses[1], losses[2])
        step(together, exact, errors)
        step(alone, exact, own)
    restructured(together.model, fused)
    together.model.load_state_dict(fused)
    leader.check(together.model, weights_digest(together.model.state_dict()))
    leader.end()
    return {"errors": errors, "own": own}


def note(errors: dict[str, float], name: str, found: Tensor, true: Tensor) -> None:
    """The largest error relative to the largest value."""
    error = float((found.double() - true.double()).abs().max() / true.double().abs().max().clamp(min=1e-6))
    errors[name] = max(errors.get(name, 0.0), error)


def step(net: Network, exact: Network, errors: dict[str, float]) -> None:
    true = dict(exact.model.named_parameters())
    for name, parameter in net.model.named_parameters():
        gradient = true[name].grad
        assert (parameter.grad is None) == (gradient is None), name
        if parameter.grad is not None and gradient is not None:
            note(errors, name, parameter.grad, gradient)


def descend(net: Network) -> None:
    with torch.no_grad():
        for parameter in net.model.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad)
            parameter.grad = None


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, size = int(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=size)
    joined = WorkerGroup.joined()
    if sys.argv[4:] == ["fused"]:
        if rank == 0:
            print(json.dumps(lead_fused(joined)))
        else:
            follow(joined, network(), feed)
        dist.destroy_process_group()
        sys.exit(0)
    if sys.argv[4:] == ["taught"]:
        if rank == 0:
            print(json.dumps(lead_taught(joined)))
        else:
            own = network()
            follow(joined, own, feed, lambda role: taught(role, 7, own))
        dist.destroy_process_group()
        sys.exit(0)
    if sys.argv[4:]:
        if rank == 1:
            joined.hear()
            os._exit(1)
        print(json.dumps(lose(joined)), flush=True)
        os._exit(0)
    if rank == 0:
        print(json.dumps(lead(joined)))
    else:
        follow(joined, network(), feed)
    dist.destroy_process_group()
