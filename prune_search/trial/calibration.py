"""Measures the time of a step and the size of a state, with a few steps of the real network on the real data."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from prune_search.recipe.clock import train_rate
from prune_search.tasks.layers import prunable_weights
from prune_search.training.loop import Course, train
from prune_search.training.optimizers import state_tensors
from prune_search.training.segment import model_tensors
from prune_search.trial.setup import TrialSetup

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
        seconds_waiting: of a step, for data that is read while training goes on.
        optimizer_bytes: the optimizer's buffers, as a state has them that training goes on from.
        mask_bytes: a mask of all weights that can be pruned, one bit each.
    """

    seconds_per_step: float
    seconds_per_evaluation: float
    model_bytes: int
    device: str
    optimizer_bytes: int = 0
    mask_bytes: int = 0
    seconds_waiting: float = 0.0


def calibrate(setup: TrialSetup) -> Calibration:
    """Train a few steps of a recipe's network, which is put back as it was.

    Args:
        setup: from `setup.prepare`.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(setup.recipe.train.threads)
    try:
        with torch.random.fork_rng(devices=[setup.network.device] if setup.network.device.type == "cuda" else []):
            optimizer = setup.optimizer(setup.recipe.optimizer)
            per_step, waiting = _step_seconds(setup, optimizer)
            begun = time.perf_counter()
            setup.scores("validation", setup.model)
            per_evaluation = time.perf_counter() - begun
    finally:
        setup.close()
        torch.set_num_threads(before)
    tensors = model_tensors(setup.model)
    size = sum(int(tensor.nbytes) for tensor in tensors.values())
    names = {parameter: name for name, parameter in setup.model.named_parameters()}
    buffers = sum(int(tensor.nbytes) for tensor in state_tensors(optimizer, names).values())
    bits = sum(-(-weight.numel() // 8) for weight in prunable_weights(setup.model).values())
    return Calibration(per_step, per_evaluation, size, setup.network.device.type, buffers, bits, waiting)


def _step_seconds(setup: TrialSetup, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """Seconds of a step, and for how many of them it waits for data."""
    course = Course(optimizer, setup.feed(), 0, train_rate(setup.recipe, setup.timeline.epoch), ())
    train(setup.network, course, 0, WARM_UP_STEPS)
    _wait(setup)
    begun, steps, waited = time.perf_counter(), 0, setup.waited_s
    while time.perf_counter() - begun < MEASURED_S:
        first = WARM_UP_STEPS + steps
        train(setup.network, course, first, first + STEPS_AT_A_TIME)
        _wait(setup)
        steps += STEPS_AT_A_TIME
    return (time.perf_counter() - begun) / steps, (setup.waited_s - waited) / steps


def _wait(setup: TrialSetup) -> None:
    """A step on an accelerator is over when it says so."""
    if setup.network.device.type == "cuda":
        torch.cuda.synchronize(setup.network.device)
