"""When weights are dropped and grown, and how many."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from prune_search.pruning.retrain.events import ANNEALS, Events, drop_options, events_in, misplaced, unfit

OPTIONS: dict[str, Any] = {
    **{"drop": "0.3", "anneal": "cosine", "to": "0", "criterion": "magnitude", "init": "zeros"},
    **{"from": "0it", "until": "100it", "every": "25it"},
}


def test_events_are_counted_from_the_first_place_and_there_is_none_at_the_last() -> None:
    events = Events.of(OPTIONS, 200, 10)
    assert [step for step in range(200) if events.due(step)] == [0, 25, 50, 75]
    assert events_in(200, 10, **OPTIONS) == 4
    assert events_in(60, 10, **{**OPTIONS, "until": "end"}) == 3
    later = Events.of({**OPTIONS, "from": "3ep"}, 200, 10)
    assert [step for step in range(200) if later.due(step)] == [30, 55, 80]


def test_the_share_falls_as_the_papers_say() -> None:
    events = Events.of(OPTIONS, 200, 10)
    assert events.share(0) == Decimal("0.3")
    assert float(events.share(50)) == pytest.approx(0.15)
    assert float(events.share(100)) == pytest.approx(0.0, abs=1e-12)
    linear = Events.of({**OPTIONS, "anneal": "linear", "to": "0.1"}, 200, 10)
    assert linear.share(25) == Decimal("0.25")
    assert set(ANNEALS) == {"constant", "cosine", "linear"}


def test_counts_are_rounded_down_or_up_exactly() -> None:
    events = Events.of({**OPTIONS, "anneal": "constant", "drop": "0.1"}, 200, 10)
    assert (events.dropped(10, 0), events.dropped(10, 0, up=True)) == (1, 1)
    assert (events.dropped(19, 0), events.dropped(19, 0, up=True)) == (1, 2)
    assert events.dropped(0, 0) == 0


def test_places_outside_of_the_retraining_and_the_wrong_way_round_are_named() -> None:
    assert list(misplaced(200, 10, **OPTIONS)) == []
    assert list(misplaced(50, 10, **OPTIONS)) == [("until", "100it is past the end of the retraining (50it)")]
    wrong = {**OPTIONS, "from": "60it", "until": "50it"}
    assert list(misplaced(100, 10, **wrong)) == [("until", "50it comes before from (60it)")]


def test_a_criterion_that_cannot_score_single_weights_in_a_retraining_is_named() -> None:
    assert list(unfit(200, 10, **OPTIONS)) == []
    (problem,) = unfit(200, 10, **{**OPTIONS, "criterion": "batchnorm-scale"})
    assert problem[0] == "criterion"
    assert "here single weights move" in problem[1]
    (problem,) = unfit(200, 10, **{**OPTIONS, "criterion": "edge-popup"})
    assert "trains its scores" in problem[1]


def test_the_options_of_a_dynamics_have_its_papers_defaults() -> None:
    options = drop_options(0.3, "cosine", 0.0, "100it", "75%")
    assert (options["drop"].default, options["until"].default, options["every"].default) == (0.3, "75%", "100it")
    assert set(options) == set(OPTIONS)
