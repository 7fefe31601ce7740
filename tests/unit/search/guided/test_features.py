"""What tells networks apart."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.features import depths, network, nodes_of


def candidate(blocks: dict[str, Any], params: dict[str, Any] | None = None) -> Candidate:
    recipe = read_space(blocks, "a test").only_recipe()
    return Candidate.of(recipe, known_epoch(recipe) or 1, "", params or {}, {})


TICKET = {"preset": "lottery-ticket", "rounds": 4, "train": {"steps": "10ep"}}


def test_places_are_shares_of_the_training() -> None:
    one = network(candidate({"preset": "late-rewinding", "weights": {"at": "1ep"}, "train": {"steps": "10ep"}}), 1)
    assert one.numbers["found at"] == 1.0
    assert one.numbers["taken at"] == pytest.approx(0.1)
    assert one.numbers["clock"] == pytest.approx(0.1)
    assert one.numbers["length"] == pytest.approx(0.9)


def test_rounds_get_sparser_and_the_prior_worse() -> None:
    ticket = candidate(TICKET)
    rounds = [network(ticket, number) for number in range(1, 5)]
    assert [one.density for one in rounds] == pytest.approx([0.8, 0.64, 0.512, 0.4096])
    assert depths(rounds) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rounds[0].prior > rounds[3].prior


def test_a_half_trained_network_is_another_one() -> None:
    ticket = candidate(TICKET)
    assert network(ticket, 4, 0.5).numbers["done"] == 0.5
    assert network(ticket, 4).numbers["done"] == 1.0


def test_rows_have_numbers_from_0_to_1_and_wide_ones_by_their_logarithms() -> None:
    drawn = ((0.01, "a"), (0.1, "b"), (1.0, "a"))
    params: list[dict[str, Any]] = [{"train.optimizer.lr": rate, "mask.criterion": name} for rate, name in drawn]
    rows = nodes_of([network(candidate(TICKET, one), 4) for one in [*params, {"other": 7}]], prior=True)
    assert rows.numbers.min() >= 0.0
    assert rows.numbers.max() <= 1.0
    rates = [column for column in rows.numbers.T if sorted({*column[:3]}) == [0.0, 0.5, 1.0]]
    assert len(rates) == 1
    # Where a recipe has no such hole it stands in the middle.
    assert rates[0][3] == 0.5
    assert rows.prior is not None
    assert numpy.isfinite(rows.prior).all()
    assert len(set(rows.branch)) == 1
