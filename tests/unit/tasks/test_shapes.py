"""Which dimension the classes are in, for losses, metrics and checks alike, and numbers of one shape."""

from __future__ import annotations

import pytest
import torch

from prune_search.tasks.shapes import alike, class_dimension, classes_second, squeezed
from prune_search.tasks.tallies import classified
from prune_search.training.losses import cross_entropy, nll_logits


@pytest.mark.parametrize(
    ("scores", "targets", "dimension"),
    [
        ((6, 3), (6,), 1),
        ((6, 3, 4, 5), (6, 4, 5), 1),
        ((6, 4, 5, 3), (6, 4, 5), 3),
        ((6, 7, 3), (6, 7), 2),
        # Both go: the second one, as in torch.
        ((6, 4, 4), (6, 4), 1),
        # Of other numbers of examples: the first batch beside all targets.
        ((2, 7, 3), (100, 7), 2),
        ((2, 3, 7), (100, 7), 1),
        # Chances of each class.
        ((6, 3, 4), (6, 3, 4), 1),
    ],
)
def test_the_classes_are_second_or_last_where_only_that_goes(
    scores: tuple[int, ...], targets: tuple[int, ...], dimension: int
) -> None:
    given = torch.randn(scores)
    assert class_dimension(given, torch.zeros(targets)) == dimension
    second = classes_second(given, torch.zeros(targets))
    assert second.shape[1] == scores[dimension]
    assert torch.equal(second, given.movedim(dimension, 1))
    assert class_dimension(given, None) == class_dimension(given, "no tensor") == 1


@pytest.mark.parametrize("shape", [(6, 4, 4), (6, 3, 4), (6, 4, 3), (6, 3, 4, 5), (6, 4, 5, 3)])
def test_a_metric_sees_the_classes_where_the_loss_sees_them(shape: tuple[int, ...]) -> None:
    scores = torch.randn(shape)
    targets = torch.randint(3, (6, 4, 5) if len(shape) == 4 else (6, 4))
    found, labels = classified(scores, targets)
    apart = torch.nn.functional.cross_entropy(found, labels)
    assert float(cross_entropy(scores, targets)) == pytest.approx(float(apart), rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "targets", "wanted"),
    [
        ((6, 1, 4, 5), (6, 4, 5), ((6, 4, 5), (6, 4, 5))),
        ((6, 4, 5), (6, 1, 4, 5), ((6, 4, 5), (6, 4, 5))),
        ((6, 4, 5, 1), (6, 4, 5), ((6, 4, 5), (6, 4, 5))),
        ((1, 1), (1,), ((1,), (1,))),
        # Classes of one place are no channel.
        ((6, 3, 1), (6, 1), ((6, 3, 1), (6, 1))),
        ((6, 1, 5), (6, 4), ((6, 1, 5), (6, 4))),
        ((1,), (), ((1,), ())),
    ],
)
def test_a_channel_that_only_one_of_them_has_is_dropped(
    scores: tuple[int, ...], targets: tuple[int, ...], wanted: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    found = squeezed(torch.zeros(scores), torch.zeros(targets))
    assert tuple(tuple(each.shape) for each in found) == wanted


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.bool])
def test_whole_numbers_of_any_kind_are_classes(kind: torch.dtype) -> None:
    scores, labels = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    assert torch.equal(cross_entropy(scores, labels.to(kind)), cross_entropy(scores, labels))
    assert torch.equal(nll_logits(scores, labels.to(kind)), nll_logits(scores, labels))


def test_numbers_of_other_shapes_are_refused_but_for_a_last_dimension_of_one() -> None:
    one, flat = torch.ones(4, 1), torch.zeros(4).long()
    for scores, targets in ((one, flat), (one[:, 0], flat[:, None])):
        assert [tuple(each.shape) for each in squeezed(scores, targets)] == [(4,), (4,)]
        found = alike(scores, targets)
        assert [tuple(each.shape) for each in found] == [(4,), (4,)]
        assert found[1].dtype == torch.float32
    with pytest.raises(ValueError, match=r"outputs of shape \(4, 3\) do not go with targets \(4,\)"):
        alike(torch.ones(4, 3), flat)
