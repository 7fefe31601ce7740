"""Paused trials go on when later results move them among the best, by a pure function of the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prune_search.ledger.pauses import where_paused
from prune_search.ledger.records import Record, TrialRecords, trial_id, trial_of
from prune_search.recipe.space import read_space
from prune_search.search.promotions import Promotions, known_by

ACCURACY, SPARSITY = "maximize val/accuracy", "maximize sparsity"


def promotions(objectives: Sequence[str] = (ACCURACY,), **search: Any) -> Promotions:
    block = {"scheduler": {"name": "asha-promote", "grace": "10it", "eta": 2}, "objectives": list(objectives), **search}
    found = Promotions.of(read_space({"preset": "snip", "search": block}, "a test").search)
    assert found is not None
    return found


def at(step: int | None, accuracy: float, sparsity: float = 0.9, number: int = 1) -> dict[str, Any]:
    metrics = {"val/accuracy": accuracy}
    return {"round": number, "step": step, "steps_trained": step or 99, "metrics": metrics, "sparsity": sparsity}


def trial(
    number: int,
    *measured: Mapping[str, Any],
    promoted: Sequence[tuple[int, int]] = (),
    paused: bool = True,
) -> TrialRecords:
    """A trial that was paused at the last place where it was measured; (turn, step) of each promotion."""
    identity = trial_id(number)

    def record(kind: Any, attempt: int, data: Mapping[str, Any]) -> Record:
        return Record(identity, kind, attempt, 0, 0.0, data)

    found = [record("proposed", 1, {"recipe": {"rounds": 1}, "turn": number})]
    found += [record("measured", place, data) for place, data in enumerate(measured, 1)]
    for attempt, (in_turn, step) in enumerate(promoted, 1):
        there = next(data for data in measured if data["step"] == step)
        found.append(record("ended", attempt, {"status": "paused", "paused": there}))
        found.append(record("promoted", attempt, {"turn": in_turn, "round": 1, "step": step}))
    if paused:
        found.append(record("ended", len(measured), {"status": "paused", "paused": measured[-1]}))
    return trial_of(identity, found, {})


def test_a_paused_trial_is_promoted_once_enough_others_were_seen_to_be_worse() -> None:
    those = promotions()
    those.learn(trial(1, at(10, 0.9), paused=False))
    those.learn(trial(2, at(10, 0.5)))
    assert those.best(None, None) is None
    those.learn(trial(3, at(10, 0.4)))
    assert those.best(None, None) is None
    # Two of four go on.
    those.learn(trial(4, at(10, 0.3)))
    found = those.best(None, None)
    assert found is not None
    assert found.id == "000002"
    those.learn(trial(2, at(10, 0.5), promoted=[(5, 10)], paused=False))
    assert those.best(None, None) is None


def test_what_was_started_in_later_turns_is_as_if_it_were_not_there() -> None:
    those = promotions()
    for number, accuracy in ((1, 0.9), (2, 0.5), (3, 0.4), (4, 0.3)):
        those.learn(trial(number, at(10, accuracy), paused=number > 1))
    assert those.best(3, None) is None
    assert those.best(4, None) is not None


def test_the_furthest_place_comes_first() -> None:
    those = promotions()
    for number in (1, 2, 3, 4):
        those.learn(trial(number, at(10, number / 10)))
    for number in (5, 6, 7, 8):
        there = [at(10, 0.8), at(20, number / 10)]
        those.learn(trial(number, *there, promoted=[(number + 4, 10)]))
    found = those.best(None, None)
    assert found is not None
    assert (found.id, where_paused(found)) == ("000008", "at step 20")


def test_a_promoted_trial_is_known_as_it_was_before() -> None:
    whole = trial(1, at(10, 0.5), at(20, 0.6), promoted=[(4, 10)])
    assert (whole.status, whole.turn, where_paused(whole)) == ("paused", 4, "at step 20")
    assert known_by(whole, 4) is whole
    before = known_by(whole, 3)
    assert before.ended is None
    assert [record.data["step"] for record in before.measured] == [10]
    assert known_by(whole, 0).measured == []


def test_a_worker_that_outlived_its_driver_pauses_nothing_anew() -> None:
    """Two attempts paused at the same rung; the promotion lifts both."""
    one = trial(1, at(10, 0.5), promoted=[(4, 10)], paused=False)
    late = Record(one.id, "ended", 2, 0, 0.0, {"status": "paused", "paused": at(10, 0.5)})
    records = [r for r in (one.proposed, *one.promotions, *one.measured) if r is not None]
    assert trial_of(one.id, [*records, late], {}).ended is None


def test_of_a_front_those_go_on_that_cover_it() -> None:
    those = promotions([ACCURACY, SPARSITY])
    # One front: the best in accuracy, the sparsest, and two beside the first.
    front = [(0.90, 0.50), (0.89, 0.51), (0.88, 0.52), (0.40, 0.95)]
    for number, (accuracy, sparsity) in enumerate(front, 1):
        those.learn(trial(number, at(10, accuracy, sparsity), paused=number > 1))
    found = those.best(None, None)
    assert found is not None
    assert found.id == "000004"


def test_a_scheduler_that_stops_pauses_nothing() -> None:
    block = {"scheduler": {"name": "asha", "grace": "10it", "eta": 2}, "objectives": [ACCURACY]}
    assert Promotions.of(read_space({"preset": "snip", "search": block}, "a test").search) is None
