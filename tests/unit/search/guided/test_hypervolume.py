"""Expected hypervolume improvement against what is counted by hand and by drawing."""

from __future__ import annotations

import numpy
import pytest

from prune_search.search.guided.hypervolume import (
    MOST_POINTS,
    dominated_boxes,
    expected_hypervolume,
    front_of,
)


def volume(points: numpy.typing.NDArray[numpy.float64], reference: numpy.typing.NDArray[numpy.float64]) -> float:
    lower, upper = dominated_boxes(points, reference)
    return float((upper - lower).prod(1).sum())


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_boxes_fill_what_the_front_dominates(count: int) -> None:
    draw = numpy.random.default_rng(count)
    points, reference = draw.random((8, count)), numpy.full(count, 0.1)
    there = draw.random((200_000, count))
    below = numpy.all(there[:, None] <= points[None], axis=2)
    dominated = numpy.any(below, axis=1) & numpy.all(there >= reference, axis=1)
    assert volume(front_of(points), reference) == pytest.approx(dominated.mean(), abs=0.005)


def test_a_sure_network_adds_the_area_that_it_alone_dominates() -> None:
    reached, reference = numpy.array([[1.0, 1.0], [0.5, 0.5]]), numpy.zeros(2)
    mean = numpy.array([[2.0, 1.0], [0.9, 0.9], [0.5, 3.0], [-1.0, 9.0]])
    found = expected_hypervolume(mean, numpy.zeros((4, 2)), reached, reference)
    assert found == pytest.approx([1.0, 0.0, 1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_expectation_is_the_mean_over_draws(count: int) -> None:
    draw = numpy.random.default_rng(7)
    reached, reference = draw.random((6, count)), numpy.full(count, -0.1)
    mean, deviation = draw.random((1, count)), draw.random((1, count)) * 0.3
    front = front_of(reached)
    before = volume(front, reference)
    drawn = draw.normal(mean, deviation, (2000, count))
    gained = [volume(front_of(numpy.vstack([front, one[None]])), reference) - before for one in drawn]
    error = numpy.std(gained) / len(gained) ** 0.5
    found = expected_hypervolume(mean, deviation, reached, reference)[0]
    assert found == pytest.approx(numpy.mean(gained), abs=4 * error)


def test_without_anything_reached_all_above_the_reference_is_gained() -> None:
    found = expected_hypervolume(numpy.ones((1, 3)), numpy.zeros((1, 3)), numpy.empty((0, 3)), numpy.zeros(3))
    assert found == pytest.approx([1.0])


def test_a_large_front_is_thinned_out_and_keeps_its_ends() -> None:
    angle = numpy.linspace(0, numpy.pi / 2, 300)
    front = front_of(numpy.stack([numpy.sin(angle), numpy.cos(angle)], axis=1))
    assert len(front) == MOST_POINTS[2]
    assert front.max(0) == pytest.approx([1.0, 1.0])
