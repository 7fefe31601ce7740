"""A rung compares only what was measured at the same maturity, and only trials that count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import Record, TrialRecords
from prune_search.search.rungs import Places, Rung, mark_fields, mark_of, maturity_of

GOALS = Goals.of({"objectives": ["maximize val/accuracy"], "constraints": []})


def trial(
    identity: str, measured: Mapping[Any, Any], rounds: int = 1, number: int = 1, twin: str | None = None
) -> TrialRecords:
    """A trial that was measured at some marks of its retraining; None is the end of the round."""
    proposed = Record(identity, "proposed", 1, 0, 0.0, {"recipe": {"rounds": rounds}, "duplicate_of": twin})
    found = TrialRecords(identity, proposed)
    for place, (mark, value) in enumerate(measured.items()):
        step = 10 * (place + 1) if isinstance(mark, str) else mark
        data = {"round": number, **mark_fields(step, mark), "steps_trained": 0, "sparsity": 0.9}
        found.add_measured(Record(identity, "measured", 1, place, 0.0, {**data, "metrics": {"val/accuracy": value}}))
    return found


def test_a_record_says_where_it_was_as_it_was_told() -> None:
    one = trial("000001", {5: 0.1, "50%": 0.2, None: 0.3})
    assert [mark_of(record) for record in one.measured] == [5, "50%", None]
    assert [maturity_of(one, record) for record in one.measured] == [(None, 5), (None, "50%"), (0.9, None)]


def test_a_retraining_before_the_last_is_compared_at_its_end_alone() -> None:
    one = trial("000001", {5: 0.1, None: 0.3}, rounds=2)
    assert [maturity_of(one, record) for record in one.measured] == [None, (0.9, None)]


def test_a_trial_is_ranked_among_those_that_were_measured_there() -> None:
    places = Places()
    for identity, values in (("000001", {5: 0.5, "50%": 0.9}), ("000002", {5: 0.7}), ("000003", {"50%": 0.1})):
        places.update(trial(identity, values))
    at = places.at((None, 5)).compared("000001", GOALS, None)
    assert (len(at), at.better(GOALS, None)) == (2, 1)
    half = places.at((None, "50%")).compared("000001", GOALS, None)
    assert (len(half), half.better(GOALS, None)) == (2, 0)
    assert len(places.at((None, 6)).compared("000001", GOALS, None)) == 0
    with pytest.raises(ValueError, match="was not measured here"):
        places.at((None, 5)).compared("000003", GOALS, None).better(GOALS, None)


def test_controls_repeated_recipes_and_what_is_no_number_do_not_count() -> None:
    others = [
        trial("control-dense", {5: 1.0}),
        trial("000002", {5: 1.0}, twin="000001"),
        trial("000003", {5: None}),
        trial("000004", {5: float("nan")}),
    ]
    at = Rung.of((None, 5), [trial("000001", {5: 0.1}), *others]).compared("000001", GOALS, None)
    assert [seen.trial.id for seen in at.all()] == ["000001"]


def test_trials_after_the_last_that_counts_are_left_out_but_its_own_never() -> None:
    rung = Rung.of((None, 5), [trial(f"{number:06d}", {5: number / 100}) for number in range(1, 41)])
    at = rung.compared("000009", GOALS, None, last=3)
    assert [seen.trial.id for seen in at.all()] == ["000001", "000002", "000003", "000009"]
    assert len(rung.compared("000009", GOALS, None)) == 40


def test_the_dense_network_s_metrics_are_judged_by_when_they_are_there() -> None:
    wanted = Goals.of({"objectives": ["maximize val/accuracy"], "constraints": ["val/accuracy >= dense - 0.1"]})
    rung = Rung.of((None, 5), [trial("000001", {5: 0.6}), trial("000002", {5: 0.8})])
    before = {seen.trial.id: seen.known for seen in rung.compared("000001", wanted, None).all()}
    assert before == {"000001": False, "000002": False}
    after = rung.compared("000001", wanted, {"val/accuracy": 0.85}).all()
    assert [(seen.known, seen.violation > 0) for seen in after] == [(True, True), (True, False)]
