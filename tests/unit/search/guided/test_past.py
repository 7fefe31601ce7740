"""What records say of recipes: what they ended with, what was measured on the way, what runs, and what is left out."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from guided_trials import space_of, told

from prune_search.ledger.records import Record, TrialRecords
from prune_search.recipe.space import known_epoch
from prune_search.search.guided.past import LEFT_OUT, Reader, looked_at
from prune_search.search.proposer import Proposer

BLOCKS: dict[str, Any] = {
    "preset": "lottery-ticket",
    "train": {"steps": "10ep"},
    "rounds": 3,
    "mask": {"sparsity": {"per_round": {"hole": "uniform", "low": 0.1, "high": 0.5}}},
}


def trials(count: int, running: int = 0) -> list[TrialRecords]:
    proposer = Proposer(space_of(BLOCKS, ["maximize val/accuracy"], sampler="random"), known_epoch)
    found: list[TrialRecords] = []
    for number in range(1, count + running + 1):
        proposal = proposer.propose(number, found, None)
        assert proposal is not None
        found.append(told(proposal, {"val/accuracy": 0.9} if number <= count else None))
    return found


def measured(trial: TrialRecords, number: int, step: int | None, accuracy: float) -> None:
    data = {"round": number, "step": step, "metrics": {"val/accuracy": accuracy}, "sparsity": 0.5, "steps_trained": 1}
    trial.add_measured(Record(trial.id, "measured", 1, len(trial.measured), 0.0, data))


def test_a_completed_trial_shows_its_rounds_and_what_it_ended_with() -> None:
    (trial,) = trials(1)
    for number, accuracy in ((1, 0.97), (2, 0.95), (3, 0.91)):
        measured(trial, number, None, accuracy)
    (past,) = Reader(known_epoch).all([trial])
    assert (past.trial, past.running, past.completed) == (trial.id, False, True)
    # The last round is what the result tells again.
    assert [(one.figures["val/accuracy"], one.last) for one in past.seen] == [(0.97, False), (0.95, False), (0.9, True)]
    densities = [one.network.density or 0.0 for one in past.seen]
    assert densities == sorted(densities, reverse=True)


def test_a_trial_that_runs_shows_its_rounds_and_where_it_is() -> None:
    (trial,) = trials(0, running=1)
    measured(trial, 1, None, 0.97)
    measured(trial, 2, 5, 0.6)
    (past,) = Reader(known_epoch).all([trial])
    assert (past.running, past.completed) == (True, False)
    assert [one.figures["val/accuracy"] for one in past.seen] == [0.97, 0.6]


def test_what_a_trial_had_measured_when_it_was_promoted_counts_also_where_what_runs_does_not() -> None:
    (trial,) = trials(0, running=1)
    measured(trial, 1, None, 0.97)
    measured(trial, 2, 5, 0.6)
    reader = Reader(known_epoch)
    before = reader.past(trial, running=False)
    trial.promotions.append(Record(trial.id, "promoted", 2, 0, 1.0, {"turn": 9, "round": 1, "step": None}))
    after = reader.past(trial, running=False)
    assert before is not None
    assert after is not None
    assert (len(before.seen), after.running) == (0, True)
    assert [one.figures["val/accuracy"] for one in after.seen] == [0.97]


def test_what_is_read_is_kept_until_the_records_change() -> None:
    (trial,) = trials(0, running=1)
    reader = Reader(known_epoch)
    assert reader.past(trial) is reader.past(trial)
    before = reader.past(trial)
    measured(trial, 1, None, 0.97)
    after = reader.past(trial)
    assert before is not None
    assert after is not None
    assert (len(before.seen), len(after.seen)) == (0, 1)


def test_what_is_kept_outlives_that_records_are_read_anew() -> None:
    (trial,) = trials(1)
    reader = Reader(known_epoch)
    kept = reader.past(trial)
    assert reader.past(copy.deepcopy(trial)) is kept
    other = copy.deepcopy(trial)
    assert other.ended is not None
    ended = {**other.ended.data, "result": {"metrics": {"val/accuracy": 0.5}}}
    other.ended = replace(other.ended, data=ended)
    found = reader.past(other)
    assert found is not None
    assert found.seen[-1].figures["val/accuracy"] == 0.5


def test_what_runs_can_be_read_without_what_it_has_measured() -> None:
    known = trials(1, running=1)
    for trial in known:
        measured(trial, 1, None, 0.97)
    reader = Reader(known_epoch)
    assert [len(one.seen) for one in reader.all(known)] == [1, 1]
    assert [(len(one.seen), one.running) for one in reader.all(known, running=False)] == [(1, False), (0, True)]
    assert [len(one.seen) for one in reader.all(known)] == [1, 1]


def test_a_recipe_that_was_remembered_is_not_read_anew() -> None:
    (trial,) = trials(1)
    assert trial.proposed is not None
    first = Reader(known_epoch).past(trial)
    assert first is not None
    trial.proposed = replace(trial.proposed, data={**trial.proposed.data, "digest": first.candidate.digest})
    reader = Reader(lambda recipe: pytest.fail("read anew"))
    reader.remember([first.candidate])
    found = reader.past(trial)
    assert found is not None
    assert found.candidate == first.candidate


def test_controls_and_repeated_recipes_teach_nothing() -> None:
    first, second = trials(2)
    assert second.proposed is not None
    repeated = {**second.proposed.data, "duplicate_of": first.id}
    second.proposed = Record(second.id, "proposed", 1, 0, 0.0, repeated)
    assert first.proposed is not None
    control = TrialRecords("control-dense", first.proposed)
    found = Reader(known_epoch).all([first, second, control])
    assert [(one.trial, len(one.seen)) for one in found] == [(first.id, 1), (second.id, 0)]


def test_of_too_many_measurements_the_oldest_on_the_way_are_left_out_several_at_once() -> None:
    known = trials(20)
    for trial in known:
        for number in range(1, 3):
            for step in range(5):
                measured(trial, number, None if step == 4 else step, 0.9)
    past = Reader(known_epoch).all(known) * 6
    everything = [one for trial in past for one in trial.seen]
    assert looked_at(past[:60]) == [one for trial in past[:60] for one in trial.seen]
    seen = looked_at(past)
    assert len(seen) == len(everything) - LEFT_OUT
    assert sum(one.last for one in seen) == 120
    # The last trials are there whole.
    whole = 2 * (120 - LEFT_OUT)
    assert seen[-whole:] == everything[-whole:]
