"""What a plug-in's author learns of what trains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from torch import Tensor

from prune_search.recipe.axes import AUGMENTATIONS, LOSSES, METRICS, OPTIMIZERS, SCHEDULES
from prune_search.recipe.facts import Metric
from prune_search.recipe.fields import Number
from prune_search.recipe.registry import AnyAxis, Option
from prune_search.tasks.metrics import Measured
from prune_search.testing import check_augmentation, check_loss, check_metric, check_optimizer, check_schedule

NAME = "under-test"


@pytest.fixture(autouse=True)
def withdrawn() -> Iterator[None]:
    """What a test registers is gone after it."""
    yield
    axes: tuple[AnyAxis, ...] = (AUGMENTATIONS, LOSSES, METRICS, OPTIMIZERS, SCHEDULES)
    for axis in axes:
        if NAME in axis:
            axis.withdraw(NAME)


def test_a_loss_that_is_not_reduced_and_a_rate_below_zero_are_told() -> None:
    @LOSSES.register(NAME, summary="under test")
    def per_example(logits: Tensor, labels: Tensor) -> Tensor:
        """Not reduced."""
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    @SCHEDULES.register(NAME, summary="under test")
    def falling(lr: float, total: int, epoch: int) -> Callable[[int], float]:
        """Below 0 past the end."""
        return lambda step: lr * (1 - step / total)

    with pytest.raises(AssertionError, match=r"loss 'under-test': it is a tensor \[8\], not one number"):
        check_loss(NAME)
    with pytest.raises(AssertionError, match=r"a rate is negative"):
        check_schedule(NAME)


def test_an_augmentation_that_depends_on_more_than_its_generator_is_told() -> None:
    calls = itertools.count()

    @AUGMENTATIONS.register(NAME, summary="under test")
    def flip(pictures: Tensor, source: torch.Generator) -> Tensor:
        """Flips every other time."""
        return pictures.flip(-1) if next(calls) % 2 else pictures

    with pytest.raises(AssertionError, match="its pictures depend on more than its generator"):
        check_augmentation(NAME)


def test_an_optimizer_whose_state_is_not_stored_is_told() -> None:
    @OPTIMIZERS.register(NAME, summary="under test", options={"lr": Option(Number(0.0, 1.0), 0.1, "the rate")})
    def forgetful(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Momentum that lies outside of the optimizer's state."""

        class Forgetful(torch.optim.SGD):
            steps = 0

            def step(self, closure: object = None) -> None:  # type: ignore[override]
                self.steps += 1
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.data.add_(parameter.grad, alpha=-lr / self.steps)

        return Forgetful(list(parameters), lr)

    with pytest.raises(AssertionError, match="if stored and restored after every step, it trains to different weights"):
        check_optimizer(NAME)


def test_a_metric_that_is_no_number_is_told() -> None:
    @METRICS.register(NAME, summary="under test", facts=Metric(split="validation", simulated=False))
    def count(measured: Measured) -> float:
        """A whole number."""
        return 3

    with pytest.raises(AssertionError, match="it is 3, not a finite float"):
        check_metric(NAME)
