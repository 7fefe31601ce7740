"""One worker, a process of its own: ``data_parallel_worker.py RANK SIZE FILE passes|trials|stops|differ|lost``.

All workers run the same code; the first one prints what it found.

``passes``: gradients of a network by all workers, in float32 and float64, plain, with a teacher, and with fused layers.
``trials``: whole trials by all workers, and then by the first one alone.
``stops``: a trial that the first worker is asked to stop, is told that somebody else trains, or fails, and goes on.
``differ``: a worker that holds another mask.
``lost``: the second worker dies in the middle of a step.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from prune_search.recipe.axes import AUGMENTATIONS, LOSSES
from prune_search.recipe.space import read_space
from prune_search.storage.digests import weights_digest
from prune_search.tasks.data import Split
from prune_search.tasks.fusion import RECORD, Fused, restructured
from prune_search.tasks.workers import ALONE, EndedError, WorkerLostError, Workers, WorkersDifferError
from prune_search.training.accumulation import accumulated
from prune_search.training.data_parallel import DataParallel
from prune_search.training.loop import Feed, Network, pass_over
from prune_search.training.state_store import LackingError, PreemptedError, Steps
from prune_search.training.teaching import Teaching
from prune_search.trial.callbacks import Guarded, Silent
from prune_search.trial.run import Sharing, run_trial
from prune_search.trial.setup import TrialSetup, prepare


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


# From a network, a stream and a number to the gradients' loss: of all workers, or of one alone.
Passes = Callable[[Network, Feed, int], Tensor]


def master() -> nn.Module:
    """A teacher whose outputs do not depend on what else is in the batch: every norm has running figures."""
    model = Small()
    model.last[2] = nn.BatchNorm1d(8)
    return model


def taught(net: Network, gradients: Passes) -> Network:
    """A network with a teacher."""
    torch.manual_seed(1)
    made = functools.partial(LOSSES["distillation"].make, features="last", weight=0.8)
    teaching = Teaching(master, nn.functional.cross_entropy, made, ("head", "head"))
    _ = teaching.teacher
    return replace(net, loss=teaching.loss, gradients=teaching.gradients(gradients), teaching=teaching)


def fused_tensors(dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network with its last layers fused."""
    record = Fused("Linear", {"in_features": 54, "out_features": 5, "bias": True}, ("last.1", "last.2"), {})
    fused = {name: tensor for name, tensor in dense.items() if not name.startswith(("last.1", "last.2"))}
    weight = torch.randn(5, 54, generator=torch.Generator().manual_seed(1))
    return {**fused, "head.weight": weight, f"head.{RECORD}": record.encoded()}


def compared(
    kind: str, number: int, stream: Feed, found: tuple[Network, Network, Network], errors: dict[str, dict[str, float]]
) -> None:
    """One step of all workers, of one alone and of one alone in float64; the relative errors of the first two."""
    together, alone, exact = found
    precise = copy.deepcopy(stream)
    precise.split = doubled(stream.split)
    losses = [
        net.gradients(net, feeding, number) for net, feeding in zip(found, (stream, stream, precise), strict=True)
    ]
    for who, net, loss in (("together", together, losses[0]), ("alone", alone, losses[1])):
        note(errors[who], f"{kind} loss", loss, losses[2])
        step(net, exact, errors[who], kind)


def passes(workers: Workers) -> dict[str, Any]:
    """Steps of gradient descent with a weight that thaws, a teacher, accumulated batches, and fused layers."""
    errors: dict[str, dict[str, float]] = {"together": {}, "alone": {}}
    plain, twice = DataParallel(workers), DataParallel(workers, 2)
    nets = [network() for _ in range(3)]
    nets[0] = replace(nets[0], gradients=plain.gradients)
    nets[2].model.double()
    for number in range(3):
        if number == 1:
            for net in nets:
                net.model.get_parameter("head.bias").requires_grad_(True)
        compared("plain", number, feed("here", number), (nets[0], nets[1], nets[2]), errors)
        for net in nets:
            descend(net)
    buffers = zip(*(net.model.named_buffers() for net in nets), strict=True)
    for (name, mine), (_, theirs), (_, true) in buffers:
        note(errors["together"], name, mine, true)
        note(errors["alone"], name, theirs, true)
    workers.alike(weights_digest(nets[0].model.state_dict()), "network")
    unused = nets[0].model.get_parameter("unused.bias").grad is None
    again = accumulated(pass_over, 2)
    learners = [taught(network(), by) for by in (twice.gradients, again, again)]
    learners[2].model.double()
    learners[2].teaching.teacher.double()  # type: ignore[union-attr]
    compared("taught", 1, feed("here"), (learners[0], learners[1], learners[2]), errors)
    dense = {name: tensor.clone() for name, tensor in network().model.state_dict().items()}
    cut = replace(network(), gradients=plain.gradients)
    for number, tensors in enumerate((dense, fused_tensors(dense), dense)):
        others = [network() for _ in range(2)]
        for net in (cut, *others):
            restructured(net.model, tensors)
            net.model.load_state_dict(tensors)
            net.model.zero_grad()
        others[1].model.double()
        compared(f"fused {number}", number, feed("here", number), (cut, others[0], others[1]), errors)
    return {"errors": errors, "unused": unused}


MLP = {"model": {"name": "mlp", "hidden": [16]}, "data": "digits"}
CONV = {"model": {"name": "small-conv", "channels": [4, 6]}, "data": "digits"}
# 53 examples cannot be split evenly.
TRAIN = {"steps": "6it", "batch": 53, "optimizer": {"name": "sgd", "lr": 0.05}}
GROWING = {"name": "growing-penalty", "step": 0.3, "every": "2it", "stabilise": "2it", "optimizer": {"lr": 0.001}}


def recipe(preset: str, *, task: Mapping[str, Any] = MLP, train: Mapping[str, Any] | None = None, **more: Any) -> Any:
    return {"preset": preset, "task": task, "train": {**TRAIN, **(train or {})}, "mask": {"sparsity": 0.7}, **more}


TRIALS: Mapping[str, Mapping[str, Any]] = {
    "magnitude": recipe("magnitude-after-training", retrain={"steps": "3it"}),
    "snip": recipe("snip", task=CONV, train={"clip": 1.0, "accumulate": 2}),
    "grasp": recipe("grasp", task=CONV),
    "synflow": recipe("synflow"),
    "rigl": recipe("rigl", retrain={"dynamics": {"name": "rigl", "every": "2it"}}),
    "greg-1": recipe(
        "greg-1",
        task=CONV,
        mask={"sparsity": 0.4, "scope": {"name": "uniform", "exclude": []}},
        weights={"transform": [GROWING]},
        retrain={"steps": "3it"},
    ),
    "edge-popup": recipe("edge-popup"),
    "lottery-ticket": recipe("lottery-ticket", rounds=2, train={"early_stopping": {"every": "2it", "patience": 9}}),
    "fisher-obd": recipe("magnitude-after-training", mask={"sparsity": 0.7, "criterion": "fisher-obd"}),
    "taylor": recipe("magnitude-after-training", mask={"sparsity": 0.7, "criterion": "taylor"}),
    "hessian-trace": recipe("snip", mask={"sparsity": 0.7, "criterion": {"name": "hessian-trace", "draws": 2}}),
    "movement": recipe("snip", mask={"sparsity": 0.7, "criterion": "movement"}),
    "options": recipe(
        "snip",
        task={"model": {"name": "resnet-20", "width": 2}, "data": "digits"},
        train={"steps": "2it", "activation_checkpointing": True, "accumulate": 2, "clip": 0.5, "ema": 0.5},
    ),
    "compiled": recipe("snip", task=CONV, train={"compile": True, "steps": "2it"}),
    "wanda": recipe("magnitude-after-training", mask={"sparsity": 0.7, "criterion": "wanda"}),
}


def setup_of(raw: Mapping[str, Any], workers: Workers) -> TrialSetup:
    return prepare(read_space(raw, "a test").only_recipe(), torch.device("cpu"), workers=workers)


def ran(raw: Mapping[str, Any], workers: Workers, storage: Path | None = None) -> dict[str, Any]:
    """A trial's masks after each round, its loss and its steps."""
    result = run_trial(setup_of(raw, workers), storage)
    last = result.rounds[-1]
    return {
        "masks": [item.mask_sha256 for item in result.rounds],
        "loss": last.metrics["val/loss"],
        "accuracy": last.metrics["val/accuracy"],
        "steps": list(result.steps),
        "environment": dict(result.environment),
    }


def trials(workers: Workers) -> dict[str, Any]:
    """Each trial by all workers and by the first one alone, and some of them again from what was stored."""
    with tempfile.TemporaryDirectory() as folder:
        # The others have no storage: what they need of it they are sent.
        storage = Path(folder) / "states" if workers.first else Path("/nowhere")
        together = {name: ran(raw, workers, storage) for name, raw in TRIALS.items()}
        stored = {name: ran(TRIALS[name], workers, storage) for name in ("rigl", "lottery-ticket")}
    alone = {name: ran(raw, ALONE) for name, raw in TRIALS.items()} if workers.first else {}
    return {"together": together, "stored": stored, "alone": alone}


class Asked(Silent):
    """A sink that is asked to stop after some steps, or fails there."""

    def __init__(self, after: int, error: Exception | None = None) -> None:
        self.left, self.error = after, error

    def step(self, step: int, total: int, loss: Tensor) -> None:
        self.left -= 1

    def observe_at(self, total: int, epoch: int, settled: int) -> tuple[int, ...]:
        return (4,)

    def observed(self, seen: object) -> None:
        if self.error is not None:
            raise self.error


class Busy:
    """Everything is being trained by somebody else."""

    replays = True

    def take(self, address: str) -> bool:
        return False

    def give(self, address: str) -> None:
        raise AssertionError("nothing was taken")


def stops(workers: Workers) -> dict[str, Any]:
    """How attempts end on every worker, and what the next one has left to do."""
    raw, ends = recipe("snip"), []
    with tempfile.TemporaryDirectory() as folder:
        storage = Path(folder) if workers.first else Path("/nowhere")

        def attempt(sink: Any, claims: Any = None) -> str:
            steps = Steps()
            try:
                result = run_trial(setup_of(raw, workers), storage, sink, sharing=Sharing(claims, steps=steps))
            except (PreemptedError, LackingError, EndedError, KeyError) as error:
                return f"{type(error).__name__} {steps.trained}"
            return f"completed {steps.trained} {result.weights_sha256}"

        # Rank by rank: only the first one is asked, has claims, or fails.
        first = workers.first
        ends.append(attempt(Silent(), Busy() if first else None))
        asked = Asked(2)
        ends.append(attempt(Guarded(asked, lambda: asked.left <= 0) if first else Silent()))
        ends.append(attempt(Asked(99, KeyError("here")) if first else Silent()))
        ends.append(attempt(Silent()))
    every: list[Any] = [None] * workers.size
    dist.all_gather_object(every, ends, group=workers.words)
    straight = run_trial(setup_of(raw, workers), None).weights_sha256
    return {"ends": every, "straight": straight}


def differ(workers: Workers) -> dict[str, Any]:
    """The last worker's criterion sees other weights; every worker says so."""
    setup = setup_of(recipe("snip"), workers)
    if workers.rank == workers.size - 1:
        setup.alike = lambda masks: TrialSetup.alike(setup, replace(masks, masks=flipped(masks)))  # type: ignore[method-assign]
    try:
        run_trial(setup, None)
    except WorkersDifferError as error:
        said = str(error)
    every: list[Any] = [None] * workers.size
    dist.all_gather_object(every, said, group=workers.words)
    return {"said": every}


def flipped(masks: Any) -> dict[str, Tensor]:
    """A mask with one place more or less."""
    found = {name: mask.clone() for name, mask in masks.items()}
    first = next(iter(found.values())).reshape(-1)
    first[0] = ~first[0]
    return found


def lose(workers: Workers) -> dict[str, Any]:
    """A step with a worker that dies in the middle of it."""
    if workers.rank == 1:
        workers.agreed(lambda: None)
        os._exit(1)
    workers.agreed(lambda: None)
    net = network()
    try:
        for number in range(3):
            DataParallel(workers).gradients(net, feed("here"), number)
    except WorkerLostError as error:
        return {"said": str(error)}
    return {}


def note(errors: dict[str, float], name: str, found: Tensor, true: Tensor) -> None:
    """The largest error relative to the largest value."""
    error = float((found.double() - true.double()).abs().max() / true.double().abs().max().clamp(min=1e-6))
    errors[name] = max(errors.get(name, 0.0), error)


def step(net: Network, exact: Network, errors: dict[str, float], kind: str) -> None:
    true = dict(exact.model.named_parameters())
    for name, parameter in net.model.named_parameters():
        gradient = true[name].grad
        assert (parameter.grad is None) == (gradient is None), name
        if parameter.grad is not None and gradient is not None:
            note(errors, f"{kind} {name}", parameter.grad, gradient)


def descend(net: Network) -> None:
    with torch.no_grad():
        for parameter in net.model.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad)
            parameter.grad = None


RUNS = {"passes": passes, "trials": trials, "stops": stops, "differ": differ, "lost": lose}

if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, size = int(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=size)
    found = {name: RUNS[name](joined) for joined in [Workers.joined()] for name in sys.argv[4:]}
    if rank == 0:
        print(json.dumps(found), flush=True)
    if "lost" in found:
        os._exit(0)
    dist.destroy_process_group()
