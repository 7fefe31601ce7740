"""Metrics of predicted probabilities: how likely the targets are under them, and how well they are calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import TASK_METRICS
from prune_search.recipe.facts import TaskMetric
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.shapes import OF_CLASSES, alike
from prune_search.tasks.tallies import FromLibrary, Mean, Seen, classified, shifted, torchmetrics

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from prune_search.lazy import torch

BINS = 15


def _needs_classes(name: str, target: str) -> None:
    if target not in OF_CLASSES:
        text = f"{name} needs probabilities of classes, and these targets are {target or 'none'}"
        raise UserError([Problem("Task.metrics", text)])


def _pair(target: str, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [N, C] and classes [N]; of chances, scores and 0 or 1 [N · labels]."""
    if target == "chances":
        scores, targets = alike(scores, targets)
        return scores.flatten(), (targets > 0.5).long().flatten()
    return (shifted if target == "tokens" else classified)(scores, targets)


@TASK_METRICS.register(
    "nll",
    summary="mean negative log-likelihood of the targets, in nats",
    source="a proper score: Gneiting, Raftery 2007, JASA 102",
    facts=TaskMetric(best="minimize"),
)
def nll(target: str, classes: int) -> Mean:
    """-log p(target), p a softmax of the outputs; of chances a sigmoid of each, the mean over labels.

    Args:
        target: ``classes``, ``chances`` or ``tokens``.
        classes: how many.

    Raises:
        UserError: the targets are no classes.
    """
    _needs_classes("nll", target)

    def of(seen: Seen) -> tuple[float, float]:
        scores, targets = _pair(target, seen.scores, seen.target)
        if target == "chances":
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, targets.to(scores), reduction="sum")
        else:
            loss = torch.nn.functional.cross_entropy(scores, targets, reduction="sum")
        return float(loss), float(len(targets))

    return Mean(of)


@TASK_METRICS.register(
    "brier",
    summary="Brier score: mean over the examples of Σ_c (p_c - y_c)², 0…2",
    source="Brier 1950, Monthly Weather Review 78; a proper score: Gneiting, Raftery 2007, JASA 102",
    facts=TaskMetric(best="minimize"),
)
def brier(target: str, classes: int) -> Mean:
    """p is a softmax of the outputs and y the target's one-hot vector; of chances (p - y)², the mean over labels.

    Raises:
        UserError: the targets are no classes.

    Example:
        Of two classes with p = (.8, .2): .04 + .04 = .08 where the first is right, .64 + .64 = 1.28 where not.
    """
    _needs_classes("brier", target)

    def of(seen: Seen) -> tuple[float, float]:
        scores, targets = _pair(target, seen.scores, seen.target)
        if target == "chances":
            return float((scores.sigmoid() - targets).square().sum()), float(len(targets))
        chances = scores.softmax(dim=-1)
        right = torch.nn.functional.one_hot(targets, chances.shape[-1])
        return float((chances - right).square().sum()), float(len(targets))

    return Mean(of)


@TASK_METRICS.register(
    "ece",
    summary=f"expected calibration error: mean gap of confidence and accuracy in {BINS} bins of confidence, 0…1",
    source="Guo et al. 2017, 1706.04599, eq. 3; torchmetrics CalibrationError, norm l1",
    facts=TaskMetric(best="minimize", share=True),
)
def ece(target: str, classes: int) -> FromLibrary:
    """The gaps of bins are weighted by their examples; the bins are of equal width. 0 is perfect calibration.

    It is no proper score (one that always says the classes' frequencies has 0): read it beside `nll` or `brier`.

    Raises:
        UserError: the targets are no classes.
    """
    _needs_classes("ece", target)

    def make(scores: Tensor, targets: Tensor) -> object:
        library = torchmetrics().classification
        if target == "chances":
            return library.BinaryCalibrationError(n_bins=BINS, norm="l1")
        return library.MulticlassCalibrationError(num_classes=scores.shape[-1], n_bins=BINS, norm="l1")

    def prepare(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # The library takes what lies between 0 and 1 for probabilities, which scores can do too.
        scores, targets = _pair(target, scores, targets)
        return (scores.sigmoid() if target == "chances" else scores.softmax(dim=-1)), targets

    return FromLibrary(make, prepare)
