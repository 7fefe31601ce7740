"""How long a step takes here, and how large a state is: a few steps of the real network on the real data."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from prune_search.recipe.clock import train_rate
from prune_search.tasks.metrics import evaluate
from prune_search.training.loop import Course, train
from prune_search.training.segment import model_tensors
from prune_search.trial.setup import Bench

WARM_UP_STEPS = 3
STEPS_AT_A_TIME = 5
MEASURED_S = 1.0


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        seconds_per_step: of a dense training step.
        seconds_per_evaluation: of one pass over the validation data.
        model_bytes: weights and buffers, as a stored state has them.
        device: what it was measured on.
    """

    seconds_per_step: float
    seconds_per_evaluation: float
    model_bytes: int
    device: str


def calibrate(bench: Bench) -> Calibration:
    """Train a few steps of a recipe's network, which is put back as it was.

    Args:
        bench: from `bench.prepare`.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(bench.recipe.train["threads"])
    try:
        with torch.random.fork_rng(devices=[bench.network.device] if bench.network.device.type == "cuda" else []):
            per_step = _step_seconds(bench)
            begun = time.perf_counter()
            evaluate(bench.model, bench.data.validation, autocast=bench.network.autocast)
            per_evaluation = time.perf_counter() - begun
    finally:
        torch.set_num_threads(before)
    tensors = model_tensors(bench.model)
    size = sum(int(tensor.nbytes) for tensor in tensors.values())
    return Calibration(per_step, per_evaluation, size, bench.network.device.type)


def _step_seconds(bench: Bench) -> float:
    optimizer = bench.optimizer(bench.recipe.optimizer)
    course = Course(optimizer, bench.feed(), 0, train_rate(bench.recipe, bench.timeline.epoch), ())
    train(bench.network, course, 0, WARM_UP_STEPS)
    _wait(bench)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < MEASURED_S:
        first = WARM_UP_STEPS + steps
        train(bench.network, course, first, first + STEPS_AT_A_TIME)
        _wait(bench)
        steps += STEPS_AT_A_TIME
    return (time.perf_counter() - begun) / steps


def _wait(bench: Bench) -> None:
    """A step on an accelerator is over when it says so."""
    if bench.network.device.type == "cuda":
        torch.cuda.synchronize(bench.network.device)
