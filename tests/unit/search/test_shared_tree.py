"""Which trial waits for which, and what a trial is told to store for others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_search import make_definition

from prune_search.ledger.account import account_of
from prune_search.ledger.progress import Progress
from prune_search.ledger.records import Recorder, TrialRecords, read_trial
from prune_search.recipe import strict_yaml
from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.next_trial import Next, NextTrial
from prune_search.search.shared_tree import Tree, askable_stops

CHAINS = """\
preset: lottery-ticket
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 3ep}
weights: {at: {hole: choice, of: [0it, 5it]}}
rounds: {hole: int, low: 1, high: 3}
search: {sampler: SAMPLER, trials: 6, concurrency: 8, controls: false}
"""


def begun(tmp_path: Path, sampler: str = "grid", **search: Any) -> NextTrial:
    text = CHAINS.replace("SAMPLER", sampler)
    for key, value in search.items():
        text = text.replace("trials: 6", f"trials: 6, {key}: {value}")
    folder = make_definition(tmp_path, "chains", text)
    # The order of the file: all rounds of one rewind point come before the next one.
    space = replace(read_space(strict_yaml.load(text), "chains"), as_written=True)
    return NextTrial.open(folder, space, known_epoch, lambda: False)


def started(next_trial: NextTrial) -> TrialRecords:
    found = next_trial.next()
    assert isinstance(found, TrialRecords)
    Recorder(next_trial.folder, found.id).write("started", {"host": "here", "pid": 1})
    return found


def reach(next_trial: NextTrial, trial: TrialRecords, **places: int) -> None:
    """What a worker tells of the states that it stored."""
    reached = {place.replace("_", "."): step for place, step in places.items()}
    Recorder(next_trial.folder, trial.id).progress(Progress(trained=27, stored=27, shared=27, reached=reached))


def test_who_comes_first_trains_for_all_and_the_others_hold_nothing(tmp_path: Path) -> None:
    next_trial = begun(tmp_path)
    first = started(next_trial)
    assert next_trial.next() is Next.WAIT
    # All six were proposed, to see what they share; one runs.
    assert len(next_trial.records.trials) == 6
    assert next_trial.running == {first.id}


def test_a_trial_comes_as_soon_as_what_it_lacks_is_there(tmp_path: Path) -> None:
    next_trial = begun(tmp_path)
    first = started(next_trial)
    assert next_trial.next() is Next.WAIT
    reach(next_trial, first, train=27)
    # Of the other rewind point, the longest chain: what it trains is there for the shorter ones.
    second = started(next_trial)
    assert (second.params["weights.at"], second.params["rounds"]) == ("5it", 3)
    assert next_trial.next() is Next.WAIT
    reach(next_trial, first, train=27, retrain_1=27)
    # Whoever needs round 2 of the first chain, with three rounds before two.
    assert started(next_trial).params == {"weights.at": "0it", "rounds": 3}
    assert next_trial.next() is Next.WAIT
    reach(next_trial, second, train=27, retrain_1=22)
    assert started(next_trial).params == {"weights.at": "5it", "rounds": 1}


def test_a_trial_that_died_is_taken_up_before_those_that_waited_for_it(tmp_path: Path) -> None:
    next_trial = begun(tmp_path)
    first = started(next_trial)
    assert next_trial.next() is Next.WAIT
    next_trial.done(first.id, None)
    following = started(next_trial)
    # The longest chain goes on where the dead one was: all need the same segment.
    assert following.params["rounds"] == 3
    assert next_trial.next() is Next.WAIT


def test_a_sampler_that_learns_looks_no_further_ahead_than_it_has_workers(tmp_path: Path) -> None:
    next_trial = begun(tmp_path, "tpe", seed=3)
    next_trial.space = read_space(
        strict_yaml.load(CHAINS.replace("SAMPLER", "tpe").replace("concurrency: 8", "concurrency: 2")), "chains"
    )
    started(next_trial)
    assert next_trial.next() is Next.WAIT
    unique = [trial for trial in next_trial.records.numbered() if trial.duplicate_of is None]
    assert len(unique) <= 3


def test_a_trial_that_was_refused_comes_again_when_nobody_holds_the_stretch(tmp_path: Path) -> None:
    next_trial = begun(tmp_path)
    held = {"an address"}
    next_trial.free = lambda address: address not in held
    first = started(next_trial)
    Recorder(next_trial.folder, first.id).progress(Progress(lacking=("an address", 27)))
    next_trial.done(first.id, None)
    assert next_trial.records.trials[first.id].status == "waiting"
    others = {started(next_trial).id}
    assert first.id not in others
    other = next_trial.records.trials[others.pop()]
    reach(next_trial, other, train=27, retrain_1=27, retrain_2=27)
    assert first.id not in {started(next_trial).id, started(next_trial).id}
    held.clear()
    ids = [found.id for found in iter(next_trial.next, Next.WAIT) if isinstance(found, TrialRecords)]
    assert first.id in ids


def test_steps_of_lost_attempts_are_counted(tmp_path: Path) -> None:
    next_trial = begun(tmp_path)
    trial = started(next_trial)
    Recorder(next_trial.folder, trial.id).progress(Progress(trained=20, replayed=2, stored=15, shared=9))
    again = Recorder(next_trial.folder, trial.id, 2)
    again.write("started", {"host": "here", "pid": 2})
    again.progress(Progress(trained=39, stored=39, shared=39))
    ended: dict[str, Any] = {
        "status": "completed",
        "result": {"metrics": {}},
        "error": None,
        "steps_trained": 39,
        "steps_saved": 15,
    }
    again.write("ended", {**ended, "seconds": 1.0})
    account = account_of(read_trial(next_trial.folder / "trials" / trial.id))
    # 13 of the 15 steps that were "saved" this trial had trained itself.
    assert account.as_data() == {
        "steps_trained": 59,
        "steps_saved": 2,
        "steps_replayed": 2,
        "steps_repeated": 5,
        "steps_abandoned": 0,
    }


def test_a_stopped_trial_abandons_what_it_trained_after_its_last_state(tmp_path: Path) -> None:
    next_trial = begun(tmp_path)
    trial = started(next_trial)
    recorder = Recorder(next_trial.folder, trial.id)
    recorder.progress(Progress(trained=40, stored=36, shared=27))
    recorder.write("ended", {"status": "stopped", "result": None, "error": None, "steps_trained": 40, "steps_saved": 0})
    assert account_of(read_trial(next_trial.folder / "trials" / trial.id)).abandoned == 13


@pytest.mark.parametrize(
    ("at", "expected"),
    [("{hole: choice, of: [0it, 5it, 1ep, 50%]}", {0, 5, 9, 14, 27}), ("7it", {7, 27})],
    ids=["choices", "one place"],
)
def test_the_places_that_a_space_can_ask_for(at: str, expected: set[int]) -> None:
    text = CHAINS.replace("{hole: choice, of: [0it, 5it]}", at).replace("SAMPLER", "random")
    (stops,) = askable_stops(read_space(strict_yaml.load(text), "chains"), known_epoch).values()
    assert set(stops) == expected


def test_a_range_of_rewind_points_is_covered_densely() -> None:
    text = CHAINS.replace("{hole: choice, of: [0it, 5it]}", "{hole: uniform, low: 0it, high: 500it}")
    text = text.replace("steps: 3ep", "steps: 100ep").replace("SAMPLER", "random")
    (stops,) = askable_stops(read_space(strict_yaml.load(text), "chains"), known_epoch).values()
    inside = [step for step in stops if step <= 500]
    assert max(later - earlier for earlier, later in itertools.pairwise(inside)) < 30
    assert {0, 500} <= set(stops)


def test_a_trial_that_cannot_be_placed_waits_for_nobody(tmp_path: Path) -> None:
    next_trial = begun(tmp_path)
    first = started(next_trial)
    assert next_trial.next() is Next.WAIT
    waiting = [trial for trial in next_trial.records.numbered() if trial.id != first.id]
    assert Tree(known_epoch).ready(waiting, [first]) == []
    assert len(Tree(lambda recipe: None).ready(waiting, [first])) == 5
