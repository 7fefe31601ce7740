"""What tells networks apart."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.features import Frame, network


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
    assert Frame.of(rounds, True).depths(rounds) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rounds[0].prior > rounds[3].prior
    assert rounds[0].spent < rounds[3].spent


def test_a_half_trained_network_is_another_one() -> None:
    ticket = candidate(TICKET)
    half, whole = network(ticket, 4, 0.5), network(ticket, 4)
    assert (half.numbers["done"], whole.numbers["done"]) == (0.5, 1.0)
    assert half.spent < whole.spent


def test_rows_have_numbers_from_0_to_1_and_wide_ones_by_their_logarithms() -> None:
    drawn = ((0.01, "a"), (0.1, "b"), (1.0, "a"))
    params: list[dict[str, Any]] = [{"train.optimizer.lr": rate, "mask.criterion": name} for rate, name in drawn]
    networks = [network(candidate(TICKET, one), 4) for one in [*params, {"other": 7}]]
    rows = Frame.of(networks, True).rows(networks)
    assert rows.numbers.min() >= 0.0
    assert rows.numbers.max() <= 1.0
    rates = [column for column in rows.numbers if sorted({*column[:3]}) == [0.0, 0.5, 1.0]]
    assert len(rates) == 1
    # Where a recipe has no such hole it stands in the middle.
    assert rates[0][3] == 0.5
    assert rows.prior is not None
    assert numpy.isfinite(rows.prior).all()
    assert len(set(rows.branch)) == 1


def test_a_frame_does_not_change_with_what_it_is_asked() -> None:
    known = [
        network(candidate(TICKET, {"rate": rate, "mask.criterion": name}), 4) for rate, name in ((1, "a"), (3, "b"))
    ]
    new = network(candidate(TICKET, {"rate": 5, "mask.criterion": "c"}), 4)
    frame = Frame.of(known, True)
    alone, together = frame.rows([new]), frame.rows([*known, new])
    assert alone.numbers[0, 0] == together.numbers[0, 2] == 2.0
    assert alone.ranked[0, 0] == together.ranked[0, 2] == 1.0
    assert alone.kinds[0, 0] not in together.kinds[0, :2]
