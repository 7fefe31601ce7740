"""What a proposal is chosen from."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from prune_search.recipe.space import Space, known_epoch, read_space
from prune_search.search.guided.candidates import FILLED, NEIGHBOURS, Candidates, SharesDraw
from prune_search.search.suggest import PinnedDraw

LARGE: dict[str, Any] = {
    "train": {"steps": "3ep", "optimizer": {"lr": {"hole": "loguniform", "low": 0.01, "high": 1.0}}},
    "any": [
        {"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.98}}},
        {"preset": "lottery-ticket", "rounds": {"hole": "int", "low": 1, "high": 8}},
    ],
}
SMALL: dict[str, Any] = {
    "any": [
        {"preset": "snip", "mask": {"sparsity": {"hole": "choice", "of": [0.5, 0.9, 0.98]}}},
        {"preset": "lottery-ticket", "rounds": {"hole": "int", "low": 1, "high": 8}},
    ],
}


def space_of(blocks: dict[str, Any]) -> Space:
    return read_space({**blocks, "search": {"sampler": "guided", "seed": 3}}, "a test")


def test_a_small_space_is_taken_whole() -> None:
    found, whole = Candidates(space_of(SMALL), known_epoch).fixed()
    assert whole
    assert len(found) == 3 + 8
    assert len({one.digest for one in found}) == 11


def test_a_large_space_is_filled_evenly_with_valid_recipes() -> None:
    space = space_of(LARGE)
    found, whole = Candidates(space, known_epoch).fixed()
    assert not whole
    assert len(found) > 0.9 * FILLED
    assert 0.45 < numpy.mean([one.option == "snip" for one in found]) < 0.55
    rates = numpy.sort([numpy.log10(one.params["train.optimizer.lr"]) for one in found])
    assert numpy.abs(rates - numpy.linspace(-2, 0, len(rates))).max() < 0.03


@pytest.mark.parametrize("blocks", [SMALL, LARGE])
def test_what_was_drawn_gives_the_recipe_again(blocks: dict[str, Any]) -> None:
    space = space_of(blocks)
    candidates = Candidates(space, known_epoch)
    fixed, _ = candidates.fixed()
    for one in [*fixed[::40], *candidates.near(fixed[0].drawn, 7)]:
        drawn = space.fill(PinnedDraw(one.drawn))
        assert drawn.recipe().canonical == one.recipe.canonical
        assert drawn.params == one.params


def test_neighbours_are_near_and_another_proposal_has_others() -> None:
    candidates = Candidates(space_of(LARGE), known_epoch)
    best = next(one for one in candidates.fixed()[0] if one.option == "snip")
    near = candidates.near(best.drawn, 5)
    alike = [one for one in near if one.option == "snip"]
    assert len(alike) > len(near) / 2
    distance = [abs(one.params["mask.sparsity"] - best.params["mask.sparsity"]) for one in alike]
    assert numpy.median(distance) < 0.1
    assert {one.digest for one in near} == {one.digest for one in candidates.near(best.drawn, 5)}
    assert {one.digest for one in near} != {one.digest for one in candidates.near(best.drawn, 6)}


def test_every_other_neighbour_goes_on_from_the_same_first_training() -> None:
    cut = {"hole": "uniform", "low": 0.1, "high": 0.5}
    space = {"preset": "lottery-ticket", "train": LARGE["train"], "rounds": 3, "mask": {"sparsity": {"per_round": cut}}}
    candidates = Candidates(space_of(space), known_epoch)
    best = candidates.with_given({})[5]
    near = candidates.near(best.drawn, 3)
    shared = [one for one in near if one.segments[0] == best.segments[0]]
    assert NEIGHBOURS / 2 <= len({one.params["mask.sparsity.per_round"] for one in shared}) < len(near)
    assert {one.params["train.optimizer.lr"] for one in shared} == {best.params["train.optimizer.lr"]}


def test_shares_reach_both_ends_of_every_kind_of_hole() -> None:
    low, high = SharesDraw(lambda name: 0.0), SharesDraw(lambda name: 1.0)
    for draw, end in ((low, 0), (high, 1)):
        assert draw.choice("a", ("x", "y", "z")) == 2 * end
        assert draw.uniform("b", 0.1, 10.0, True, None) == pytest.approx((0.1, 10.0)[end])
        assert draw.uniform("c", 0.0, 1.0, False, 0.25) == end
        assert draw.integer("d", 1, 100, True, 1) == (1, 100)[end]
        assert draw.integer("e", 2, 9, False, 3) == (2, 8)[end]
