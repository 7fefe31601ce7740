"""Metrics of classes and of class probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import TASK_METRICS
from prune_search.recipe.facts import TaskMetric
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.shapes import alike
from prune_search.tasks.tallies import FromLibrary, Mean, Seen, classified, shifted, torchmetrics

if TYPE_CHECKING:
    from torch import Tensor


def _chances(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Chances [N, labels] or [N] and 0 or 1: a sigmoid of the outputs, whatever their range."""
    scores, targets = alike(scores, targets)
    return scores.sigmoid(), (targets > 0.5).long()


def _of_classes(name: str, target: str, classes: int, **options: Any) -> FromLibrary:
    """A metric that torchmetrics has as Binary…, Multiclass… and Multilabel…."""
    library = torchmetrics().classification
    prepare = {"chances": _chances, "tokens": shifted}.get(target, classified)

    def make(scores: Tensor, targets: Tensor) -> Any:
        if target == "chances":
            if scores.dim() == 1 or scores.shape[1] == 1:
                return getattr(library, f"Binary{name}")()
            return getattr(library, f"Multilabel{name}")(num_labels=scores.shape[1], **options)
        return getattr(library, f"Multiclass{name}")(num_classes=scores.shape[-1], **options)

    return FromLibrary(make, prepare)


@TASK_METRICS.register(
    "accuracy",
    summary="share of the examples (or pixels, labels, tokens) that are right, 0…1",
    source="common practice",
    facts=TaskMetric(share=True),
)
def accuracy(target: str, classes: int) -> Mean:
    """Of equal highest scores the first class counts; a chance counts as 1 from one half on.

    Args:
        target: ``classes``, ``chances`` or ``tokens``.
        classes: how many.
    """
    if target == "numbers":
        raise UserError([Problem("Task.metrics", "accuracy needs classes, and these targets are numbers")])

    def right(seen: Seen) -> tuple[float, float]:
        if target == "chances":
            scores, targets = alike(seen.scores, seen.target)
            return float(((scores > 0) == (targets > 0.5)).sum()), float(targets.numel())
        prepare = shifted if target == "tokens" else classified
        scores, targets = prepare(seen.scores, seen.target)
        return float((scores.argmax(dim=-1) == targets).sum()), float(targets.numel())

    return Mean(right)


@TASK_METRICS.register(
    "top5",
    summary="share of the examples whose class is among the five highest scores, 0…1",
    source="torchmetrics MulticlassAccuracy",
    facts=TaskMetric(share=True),
)
def top5(target: str, classes: int) -> FromLibrary:
    """Needs more than five classes to say anything."""
    return _of_classes("Accuracy", target, classes, top_k=5, average="micro")


@TASK_METRICS.register(
    "f1",
    summary="mean over the classes of the harmonic mean of precision and recall, 0…1",
    source="torchmetrics F1Score, average macro",
    facts=TaskMetric(share=True),
)
def f1(target: str, classes: int) -> FromLibrary:
    """Macro F1; of one output the F1 of the positive class."""
    return _of_classes("F1Score", target, classes, average="macro")


@TASK_METRICS.register(
    "auroc",
    summary="area under the receiver operating characteristic, mean over the classes, 0…1",
    source="torchmetrics AUROC, average macro",
    facts=TaskMetric(share=True),
)
def auroc(target: str, classes: int) -> FromLibrary:
    """One half is chance."""
    return _of_classes("AUROC", target, classes, average="macro")


@TASK_METRICS.register(
    "average-precision",
    summary="area under the curve of precision over recall, mean over the classes, 0…1",
    source="torchmetrics AveragePrecision, average macro",
    facts=TaskMetric(share=True),
)
def average_precision(target: str, classes: int) -> FromLibrary:
    """The share of positives is chance."""
    return _of_classes("AveragePrecision", target, classes, average="macro")
