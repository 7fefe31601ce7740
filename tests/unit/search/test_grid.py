"""The grid covers exactly the product, conditional holes where they are, in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import known_epoch, read_space
from prune_search.search import proposer as module
from prune_search.search.proposer import Proposal, Proposer
from prune_search.search.suggest import GridDraw, distribution_from, spread, walk

Blocks = dict[str, Any]


def proposer(blocks: Blocks, points: int = 3) -> Proposer:
    search = {"sampler": {"name": "grid", "points": points}}
    return Proposer(read_space({**blocks, "search": search}, "a test"), known_epoch)


def every(grid: Proposer, most: int = 500) -> list[Proposal]:
    found: list[Proposal] = []
    for number in range(1, most):
        proposal = grid.propose(number, [], None)
        if proposal is None:
            return found
        assert proposal.number == number
        found.append(proposal)
    raise AssertionError(f"over {most} points")


def params(proposals: Sequence[Proposal]) -> list[Blocks]:
    return [dict(proposal.params) for proposal in proposals]


BLOCKS: Blocks = {
    "train": {"optimizer": {"lr": {"hole": "loguniform", "low": 0.01, "high": 1.0}}},
    "any": [
        {"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.9}}},
        {"preset": "lottery-ticket", "rounds": {"hole": "int", "low": 1, "high": 3}},
    ],
}


def test_the_grid_is_the_product_of_each_option_in_order() -> None:
    rates = (0.01, 0.1, 1.0)
    one = [
        {"any": "snip", "train.optimizer.lr": rate, "mask.sparsity": sparsity}
        for rate, sparsity in product(rates, (0.5, 0.7, 0.9))
    ]
    two = [
        {"any": "lottery-ticket", "train.optimizer.lr": rate, "rounds": rounds}
        for rate, rounds in product(rates, (1, 2, 3))
    ]
    assert params(every(proposer(BLOCKS))) == one + two


def test_points_are_the_values_of_a_continuous_hole() -> None:
    found = every(proposer(BLOCKS, points=2))
    assert len(found) == 2 * 2 + 2 * 3
    assert {p.params.get("mask.sparsity") for p in found} == {0.5, 0.9, None}
    assert {p.params["train.optimizer.lr"] for p in every(proposer(BLOCKS, points=1))} == {0.1}


def test_the_grid_depends_on_nothing_that_is_known_and_can_be_asked_in_any_order() -> None:
    forward, anew = every(proposer(BLOCKS)), proposer(BLOCKS)
    assert params([p for p in [anew.propose(18, [], None), anew.propose(2, [], None)] if p]) == params(
        [forward[17], forward[1]]
    )
    assert anew.propose(19, [], None) is None
    assert anew.propose(19, [], None) is None


def test_points_that_are_one_recipe_are_proposed_once() -> None:
    # An epoch has nine iterations: what lies between them is rounded.
    steps = {"hole": "uniform", "low": "0ep", "high": "1ep"}
    blocks = {"preset": "fine-tune", "mask": {"sparsity": {"hole": "choice", "of": [0.5, {"final": 0.5}, 0.6]}}}
    found = every(proposer({**blocks, "retrain": {"steps": steps}}, points=30))
    lengths = ("0ep", *(f"{iterations}it" for iterations in range(1, 9)), "1ep")
    assert [(p.recipe.mask.sparsity.final, p.params["retrain.steps"]) for p in found] == list(
        product((0.5, 0.6), lengths)
    )


def test_invalid_points_are_left_out() -> None:
    clock = {"hole": "choice", "of": ["0it", "2ep", "3ep"]}
    steps = {"hole": "choice", "of": ["1ep", "2ep", "3ep"]}
    blocks = {"preset": "snip", "train": {"steps": "3ep"}, "retrain": {"steps": steps, "clock": clock}}
    pairs = {(p.params["retrain.steps"], p.params["retrain.clock"]) for p in every(proposer(blocks))}
    assert pairs == {("1ep", "0it"), ("2ep", "0it"), ("3ep", "0it"), ("1ep", "2ep")}


def test_a_grid_that_never_meets_a_valid_point_says_so_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INVALID_OF_GRID", 3)

    def never(recipe: Recipe) -> int:
        raise UserError("there is no such epoch")

    grid = Proposer(proposer(BLOCKS).space, never)
    for _ in range(2):
        with pytest.raises(UserError, match=r"3 draws in a row .* no such epoch"):
            grid.propose(1, [], None)


def test_a_space_without_holes_is_a_grid_of_one_point() -> None:
    assert params(every(proposer({"preset": "snip"}))) == [{}]


def test_long_ranges_of_whole_numbers_and_of_steps_are_taken_as_continuous() -> None:
    draw = GridDraw(3, (0, 1, 2, 2, 0))
    assert draw.integer("a", 0, 1000, False, 1) == 0
    assert draw.integer("b", 0, 1000, False, 10) == 500
    assert draw.integer("c", 1, 10_000, True, 1) == 10_000
    assert draw.uniform("d", 0.0, 1.0, False, 0.3) == 0.6
    assert draw.uniform("e", 0.0, 1.0, False, 0.001) == 0.0
    assert draw.sizes == [3, 3, 3, 4, 3]


def test_a_step_that_is_finer_than_floating_point_is_none() -> None:
    draw = GridDraw(3, (1,))
    assert draw.uniform("x", 0.0, 1.0, False, 1e-300) == 0.5
    assert draw.sizes == [3]


@settings(deadline=None)
@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(0, 1e6),
    points=st.integers(1, 20),
    step=st.none() | st.floats(1e-3, 1e3),
)
def test_what_a_grid_draws_lies_in_its_distribution(low: float, width: float, points: int, step: float | None) -> None:
    draw = GridDraw(points)
    draw.uniform("x", low, low + width, False, step)
    for index in range(draw.sizes[0]):
        at = GridDraw(points, (index,))
        value = at.uniform("x", low, low + width, False, step)
        distribution: BaseDistribution = at.distributions["x"]
        assert distribution._contains(distribution.to_internal_repr(at.params["x"]))
        assert low <= value <= low + width
        if step is not None:
            assert value == pytest.approx(low + at.params["x"] * step)


@settings(deadline=None)
@given(low=st.floats(1e-9, 1e6), factor=st.floats(1, 1e6), points=st.integers(2, 20))
def test_values_are_spread_from_end_to_end(low: float, factor: float, points: int) -> None:
    for log in (True, False):
        values = spread(low, low * factor, log, points)
        assert (values[0], values[-1]) == (low, low * factor)
        assert values == sorted(set(values))


Tree = list[Any]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.just([]), lambda below: st.lists(below, min_size=1, max_size=3), max_leaves=8
)


def leaves(tree: Tree, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if not tree:
        return [path]
    return [leaf for index, below in enumerate(tree) for leaf in leaves(below, (*path, index))]


@settings(deadline=None)
@given(TREES, TREES)
def test_the_walk_visits_every_leaf_of_conditional_trees_once(first: Tree, second: Tree) -> None:
    def descend(tree: Tree, draw: GridDraw, name: str) -> tuple[int, ...]:
        path: tuple[int, ...] = ()
        while tree:
            index = draw.choice(f"{name}{path}", tuple(map(str, range(len(tree)))))
            tree, path = tree[index], (*path, index)
        return path

    visited = [point for point, _ in walk(2, lambda draw: (descend(first, draw, "a"), descend(second, draw, "b")))]
    assert visited == list(product(leaves(first), leaves(second)))


def test_a_proposal_of_the_grid_keeps_what_it_was_drawn_from() -> None:
    proposal = proposer(BLOCKS).propose(1, [], None)
    assert proposal is not None
    assert proposal.sampler["params"] == {"any": "snip", "train.optimizer.lr": 0.01, "any[snip].mask.sparsity": 0.5}
    kept = {name: distribution_from(written) for name, written in proposal.sampler["distributions"].items()}
    assert set(kept) == set(proposal.sampler["params"])
