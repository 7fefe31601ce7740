"""Metrics of classes and chances against formulas and torchmetrics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics.classification as library
from torch import Tensor

from prune_search.recipe.axes import TASK_METRICS
from prune_search.recipe.problems import UserError
from prune_search.tasks.tallies import Seen

SOURCE = torch.Generator().manual_seed(0)
SCORES, CLASSES = torch.randn(60, 7, generator=SOURCE), torch.randint(7, (60,), generator=SOURCE)
HELD = (torch.rand(60, 7, generator=SOURCE) < 0.4).float()


def value(name: str, target: str, scores: Tensor, targets: Tensor, **options: Any) -> float:
    """Of batches of seven."""
    tally: Any = TASK_METRICS[name].make(target, 0, **options)
    for start in range(0, len(targets), 7):
        some = scores[start : start + 7], targets[start : start + 7]
        tally.update(Seen(some[0], some, some[1], len(some[0]), 0.0))
    return float(tally.value())


def test_accuracy_is_the_share_that_is_right() -> None:
    assert value("accuracy", "classes", SCORES, CLASSES) == pytest.approx(
        float((SCORES.argmax(1) == CLASSES).float().mean())
    )
    assert value("accuracy", "chances", SCORES, HELD) == pytest.approx(
        float(((SCORES > 0) == (HELD > 0)).float().mean())
    )
    one = value("accuracy", "chances", SCORES[:, :1], HELD[:, 0].long())
    assert one == pytest.approx(float(((SCORES[:, 0] > 0) == (HELD[:, 0] > 0)).float().mean()))
    # Of equal scores the first class counts.
    assert value("accuracy", "classes", torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])) == 0.5
    with pytest.raises(UserError, match="accuracy needs classes, and these targets are numbers"):
        TASK_METRICS["accuracy"].make("numbers", 0)


def test_accuracy_of_tokens_and_of_places() -> None:
    tokens, scores = torch.randint(5, (9, 6), generator=SOURCE), torch.randn(9, 6, 5, generator=SOURCE)
    right = (scores[:, :-1].argmax(-1) == tokens[:, 1:]).float().mean()
    assert value("accuracy", "tokens", scores, tokens) == pytest.approx(float(right))
    pixels = torch.randint(5, (9, 4, 4), generator=SOURCE)
    maps = torch.randn(9, 5, 4, 4, generator=SOURCE)
    pixels[0, 0] = -100
    kept = pixels != -100
    right = (maps.argmax(1) == pixels)[kept].float().mean()
    assert value("accuracy", "classes", maps, pixels) == pytest.approx(float(right))


def test_the_five_highest() -> None:
    among = (SCORES.topk(5, dim=1).indices == CLASSES[:, None]).any(1).float().mean()
    assert value("top5", "classes", SCORES, CLASSES) == pytest.approx(float(among))


@pytest.mark.parametrize(
    ("name", "metric"), [("f1", "F1Score"), ("auroc", "AUROC"), ("average-precision", "AveragePrecision")]
)
def test_the_librarys_metrics_are_means_over_classes_or_labels(name: str, metric: str) -> None:
    many = getattr(library, f"Multiclass{metric}")(7, average="macro")
    assert value(name, "classes", SCORES, CLASSES) == pytest.approx(float(many(SCORES, CLASSES)))
    labels = getattr(library, f"Multilabel{metric}")(7, average="macro")
    assert value(name, "chances", SCORES, HELD) == pytest.approx(float(labels(SCORES.sigmoid(), HELD.long())))
    one = float(getattr(library, f"Binary{metric}")()(SCORES[:, 0].sigmoid(), HELD[:, 0].long()))
    assert value(name, "chances", SCORES[:, :1], HELD[:, :1]) == pytest.approx(one)
    assert value(name, "chances", SCORES[:, 0], HELD[:, 0]) == pytest.approx(one)
    assert value(name, "chances", SCORES[:, :1, None, None], HELD[:, :1, None, None]) == pytest.approx(one)


def test_f1_is_its_formula() -> None:
    guess = SCORES.argmax(1)
    each = []
    for label in range(7):
        both = int(((guess == label) & (label == CLASSES)).sum())
        either = int((guess == label).sum()) + int(torch.eq(CLASSES, label).sum())
        each.append(2 * both / max(1, either))
    assert value("f1", "classes", SCORES, CLASSES) == pytest.approx(sum(each) / 7)


def test_auroc_of_two_classes_is_the_share_of_pairs_in_order() -> None:
    scores, labels = SCORES[:, :2], HELD[:, 0].long()
    margin = scores[:, 1] - scores[:, 0]
    pairs = margin[labels == 1][:, None] - margin[labels == 0]
    wanted = float(((pairs > 0).float() + 0.5 * (pairs == 0).float()).mean())
    assert value("auroc", "classes", scores, labels) == pytest.approx(wanted)
