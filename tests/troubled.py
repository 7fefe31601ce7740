"""Criteria and a model that make trouble, as a plugin of the workers: what they do is told by files in a folder."""

from __future__ import annotations

import contextlib
import os
import random
import time
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from real_search import HALT, HANG, LATE, TROUBLE

from prune_search.recipe.axes import CRITERIA, MODELS
from prune_search.recipe.fields import Integer
from prune_search.recipe.registry import REQUIRED, Option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prune_search.pruning.mask.scoring import Scores, Scoring


def _folder() -> Path:
    return Path(os.environ[TROUBLE])


def _magnitude(scoring: Scoring) -> Scores:
    return {name: weight.abs() for name, weight in scoring.dense.items()}


@CRITERIA.register("late", summary="magnitude, after up to as many seconds as the file says")
def late(scoring: Scoring) -> Scores:
    """Magnitude."""
    file = _folder() / LATE
    if file.exists():
        time.sleep(random.uniform(0, float(file.read_text())))
    return _magnitude(scoring)


@CRITERIA.register(
    "hanging",
    summary="magnitude; it never ends where there is a file of its number",
    options={"number": Option(Integer(0, 9), REQUIRED, "of the file")},
)
def hanging(scoring: Scoring, *, number: int) -> Scores:
    """Magnitude."""
    while (_folder() / f"{HANG}{number}").exists():
        time.sleep(1)
    return _magnitude(scoring)


@CRITERIA.register("broken", summary="raises an error")
def broken(scoring: Scoring) -> Scores:
    """Nothing."""
    raise ValueError("this criterion is broken")


@MODELS.register("halting", summary="a small perceptron; it stays at the step of training that the file says")
def halting(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A perceptron."""
    from torch import is_grad_enabled
    from torch.nn import Flatten, Linear, ReLU, Sequential

    class Halting(Sequential):
        steps = 0

        def forward(self, inputs: Tensor) -> Tensor:
            if self.training and is_grad_enabled():
                self.steps += 1
                _halt(self.steps)
            found: Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
            return found

    return Halting(Flatten(), Linear(prod(shape), 16), ReLU(), Linear(16, classes))


def _halt(step: int) -> None:
    """Stay here, once, until this process is killed; who it is stands in another file. Of several workers the first."""
    from torch import distributed

    if distributed.is_initialized() and distributed.get_rank():
        return
    file = _folder() / HALT
    if file.exists() and int(file.read_text()) == step:
        with contextlib.suppress(FileNotFoundError):
            file.rename(file.with_suffix(".taken"))
            file.with_suffix(".new").write_text(str(os.getpid()))
            file.with_suffix(".new").rename(file.with_suffix(".pid"))
            time.sleep(120)


@MODELS.register(
    "hungry",
    summary="a small perceptron whose device is out of memory: never, where it has less than both CPUs, or always",
    options={"appetite": Option(Integer(0, 2), REQUIRED, "0, 1 or 2")},
)
def hungry(shape: tuple[int, ...], classes: int, appetite: int) -> nn.Module:
    """A perceptron."""
    from torch import OutOfMemoryError
    from torch.nn import Flatten, Linear, ReLU, Sequential

    class Hungry(Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            if self.training and (appetite == 2 or (appetite == 1 and _cpus() < 2)):
                raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee the documentation")
            found: Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
            return found

    return Hungry(Flatten(), Linear(prod(shape), 16), ReLU(), Linear(16, classes))


def _cpus() -> float:
    """The CPUs that Ray has given to the trial of this process."""
    import ray

    resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    return float(resources.get("CPU", 0.0))
