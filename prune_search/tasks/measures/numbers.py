"""Metrics of numbers and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import TASK_METRICS
from prune_search.recipe.facts import TaskMetric
from prune_search.recipe.fields import Number
from prune_search.recipe.registry import Option
from prune_search.tasks.shapes import alike
from prune_search.tasks.tallies import FromLibrary, torchmetrics

if TYPE_CHECKING:
    from torch import Tensor


def _regression(name: str, **options: Any) -> FromLibrary:
    library = torchmetrics().regression
    return FromLibrary(lambda scores, targets: getattr(library, name)(**options), alike)


@TASK_METRICS.register(
    "mae",
    summary="mean absolute error, in the target's unit",
    source="torchmetrics MeanAbsoluteError",
    facts=TaskMetric(best="minimize"),
)
def mae(target: str, classes: int) -> FromLibrary:
    """Of all outputs alike."""
    return _regression("MeanAbsoluteError")


@TASK_METRICS.register(
    "rmse",
    summary="root of the mean squared error, in the target's unit",
    source="torchmetrics MeanSquaredError",
    facts=TaskMetric(best="minimize"),
)
def rmse(target: str, classes: int) -> FromLibrary:
    """Of all outputs alike."""
    return _regression("MeanSquaredError", squared=False)


@TASK_METRICS.register(
    "r2",
    summary="share of the targets' variance that is explained, at most 1",
    source="torchmetrics R2Score, uniform average over the outputs",
    facts=TaskMetric(share=True),
)
def r2(target: str, classes: int) -> FromLibrary:
    """0 is what the mean of the targets gives."""

    def flat(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        scores, targets = alike(scores, targets)
        return (scores, targets) if scores.dim() < 2 else (scores.flatten(1), targets.flatten(1))

    library = torchmetrics().regression
    return FromLibrary(lambda scores, targets: library.R2Score(), flat)


@TASK_METRICS.register(
    "psnr",
    summary="peak signal-to-noise ratio, in dB",
    source="torchmetrics PeakSignalNoiseRatio",
    options={
        "data_range": Option(Number(0.0, above=True), 1.0, "range of the targets: largest minus smallest value"),
        "ignore_value": Option(Number(), None, "targets of this value are ignored", later=True),
    },
    facts=TaskMetric(),
)
def psnr(target: str, classes: int, *, data_range: float = 1.0, ignore_value: float | None = None) -> FromLibrary:
    """10 log10(range² / mean squared error) over all values of the split, or those whose target is not ignored."""

    def counted(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        scores, targets = alike(scores, targets)
        kept = targets != ignore_value
        return scores[kept], targets[kept]

    library = torchmetrics().image
    prepare = alike if ignore_value is None else counted
    return FromLibrary(lambda scores, targets: library.PeakSignalNoiseRatio(data_range=data_range), prepare)
