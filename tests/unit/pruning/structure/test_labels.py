"""Labels of places: what is tied goes together, and what is tied to a place that stays says why."""

from __future__ import annotations

import itertools

import numpy as np

from prune_search.pruning.structure.labels import FIXED, Labels, fixed, same_everywhere


def test_tied_labels_are_one_class_however_long_the_way() -> None:
    labels = Labels()
    parts = [labels.fresh(3) for _ in range(6)]
    for one, other in itertools.pairwise(parts):
        labels.tie(one[::-1], other, "")
    classes, reasons = labels.classes()
    assert not reasons
    assert np.array_equal(classes[parts[0]], classes[parts[2]])
    assert np.array_equal(classes[parts[0]], classes[parts[5]][::-1])
    assert len(set(classes[parts[0]].tolist())) == 3


def test_what_is_tied_to_a_place_that_stays_cannot_go_and_the_reason_is_known() -> None:
    labels = Labels()
    first, second, third = labels.fresh(2), labels.fresh(2), labels.fresh(2)
    labels.tie(first, second, "")
    labels.tie(np.array([second[0], FIXED]), third, "an input")
    classes, reasons = labels.classes()
    assert classes[third[1]] == FIXED
    assert classes[first[1]] != FIXED
    assert reasons[int(labels.roots[third[1]])] == "an input"
    assert labels.fresh(1).tolist() == [FIXED]


def test_labels_along_one_axis() -> None:
    ids = np.array([[4, 4], [5, 5], [6, 6]])
    assert same_everywhere(ids, 0)
    assert not same_everywhere(ids, 1)
    assert same_everywhere(fixed(4).reshape(2, 2), 1)
