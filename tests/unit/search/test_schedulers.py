"""Judges on synthetic curves: they compare at equal maturity only, and are functions of the records."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import Record, Recorder, TrialRecords, read_trial
from prune_search.recipe.axes import SCHEDULERS
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.search.rungs import Rung, maturity_of
from prune_search.search.schedulers import StoppingRule, check_scheduler, make_stopping_rule

EPOCH = 10
ACCURACY = "maximize val/accuracy"


def goals(objectives: Sequence[str] = (ACCURACY,), constraints: Sequence[str] = ()) -> Goals:
    return Goals.of({"objectives": list(objectives), "constraints": list(constraints)})


def judge(name: str, **options: Any) -> StoppingRule:
    search = {"scheduler": {"name": name, **options}, "objectives": [ACCURACY]}
    return make_stopping_rule(read_space({"preset": "snip", "search": search}, "a test").search["scheduler"], EPOCH)


def proposed(identity: str, rounds: int = 1, duplicate_of: str | None = None) -> Record:
    recipe = {"rounds": rounds}
    return Record(identity, "proposed", 1, 0, 0.0, {"recipe": recipe, "duplicate_of": duplicate_of})


def measured(
    identity: str, step: int | None, accuracy: Any, sparsity: float = 0.9, number: int = 1, trained: int = 0
) -> Record:
    metrics = {"val/accuracy": accuracy}
    data = {"round": number, "step": step, "steps_trained": trained, "metrics": metrics, "sparsity": sparsity}
    return Record(identity, "measured", 1, 0, 0.0, data)


def curve(identity: str, values: Mapping[int, Any], sparsity: float = 0.9, trained: int = 0) -> TrialRecords:
    """A trial of one round that was measured at some steps of its retraining."""
    records = [measured(identity, step, value, sparsity, trained=trained + step) for step, value in values.items()]
    return TrialRecords(identity, proposed(identity), measured=records)


def chain(identity: str, values: Sequence[tuple[float, float]], rounds: int = 9) -> TrialRecords:
    """A trial of many rounds; (sparsity, accuracy) after each."""
    records = [measured(identity, None, value, sparsity, r) for r, (sparsity, value) in enumerate(values, 1)]
    return TrialRecords(identity, proposed(identity, rounds), measured=records)


def stops(
    judge: StoppingRule,
    identity: str,
    maturity: Any,
    trials: Sequence[TrialRecords],
    wanted: Goals | None = None,
    dense: Mapping[str, float] | None = None,
) -> bool:
    wanted = wanted or goals()
    return judge.stop(Rung.of(maturity, trials).compared(identity, wanted, dense), wanted, dense)


def survivors(
    judge: StoppingRule, maturity: Any, trials: Sequence[TrialRecords], wanted: Goals | None = None
) -> list[str]:
    return [trial.id for trial in trials if not stops(judge, trial.id, maturity, trials, wanted)]


# --- maturity -------------------------------------------------------------------------------------------------------


def test_maturity_is_the_step_of_the_last_retraining_or_the_sparsity_after_a_round() -> None:
    trial = TrialRecords("a", proposed("a", rounds=2))
    assert maturity_of(trial, measured("a", 20, 0.5, number=2)) == (None, 20)
    assert maturity_of(trial, measured("a", 20, 0.5, number=1)) is None
    assert maturity_of(trial, measured("a", None, 0.5, 0.36000000001, number=2)) == (0.36, None)


def test_none_stops_nothing() -> None:
    assert survivors(judge("none"), (None, 10), [curve("a", {10: 0.0}), curve("b", {10: 1.0})]) == ["a", "b"]
    assert list(judge("none").measure_at(100)) == []


# --- asha -----------------------------------------------------------------------------------------------------------


def test_rungs_lie_at_grace_times_powers_of_eta_before_the_end() -> None:
    assert list(judge("asha", grace="2ep", eta=3).measure_at(180)) == [20, 60]
    assert list(judge("asha", grace="5it", eta=2).measure_at(41)) == [5, 10, 20, 40]


def test_rungs_in_percent_lie_at_shares_of_each_trials_own_retraining() -> None:
    asha = judge("asha", grace="10%", eta=3)
    assert asha.measure_at(200) == {20: "10%", 60: "30%", 180: "90%"}
    assert asha.measure_at(1000) == {100: "10%", 300: "30%", 900: "90%"}
    # Of a retraining of four steps a tenth is none.
    assert asha.measure_at(4) == {1: "30%"}
    assert judge("asha", grace="12.5%", eta=2).measure_at(80) == {10: "12.5%", 20: "25%", 40: "50%"}


def test_asha_in_percent_compares_at_equal_shares_whatever_the_step() -> None:
    asha = judge("asha", grace="10%", eta=2)
    short, long = curve("short", {10: 0.6, 30: 0.7}), curve("long", {100: 0.8, 300: 0.9})
    for trial in (short, long):
        trial.measured[:] = [
            replace(record, data={**record.data, "share": share})
            for record, share in zip(trial.measured, ("10%", "30%"), strict=True)
        ]
    assert survivors(asha, (None, "10%"), [short, long]) == ["long"]
    # 30 % is no rung where one of two goes on: 10, 20, 40, 80.
    assert survivors(asha, (None, "30%"), [short, long]) == ["short", "long"]
    # At equal steps nothing is compared.
    assert survivors(asha, (None, 10), [short, curve("other", {10: 0.9})]) == ["short", "other"]


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_asha_keeps_the_best_of_eta_at_each_rung(eta: int) -> None:
    rng = random.Random(0)
    asha = judge("asha", grace="10it", eta=eta)
    alive = [f"{number:02d}" for number in range(17)]
    rungs = asha.measure_at(10 * eta**2 + 1)
    assert len(rungs) == 3
    for rung in rungs:
        values = {identity: rng.random() for identity in alive}
        trials = [curve(identity, {rung: value}) for identity, value in values.items()]
        kept = survivors(asha, (None, rung), trials)
        best = sorted(values, key=lambda identity: -values[identity])[: max(1, len(values) // eta)]
        assert sorted(kept) == sorted(best)
        alive = kept


def test_asha_judges_on_rungs_only() -> None:
    trials = [curve(name, {4: value, 10: value, 20: value}) for name, value in (("a", 0.1), ("b", 0.9), ("c", 0.8))]
    asha = judge("asha", grace="10it", eta=3)
    assert survivors(asha, (None, 4), trials) == ["a", "b", "c"]
    assert survivors(asha, (None, 20), trials) == ["a", "b", "c"]
    assert survivors(asha, (None, 10), trials) == ["b"]


def test_the_first_at_a_rung_goes_on_and_so_does_the_best_of_too_few() -> None:
    asha = judge("asha", grace="10it", eta=4)
    assert survivors(asha, (None, 10), [curve("a", {10: 0.1})]) == ["a"]
    assert survivors(asha, (None, 10), [curve("a", {10: 0.1}), curve("b", {10: 0.2})]) == ["b"]


def test_raw_steps_play_no_part() -> None:
    asha = judge("asha", grace="10it", eta=2)
    # a was trained far longer before it was pruned; b is at the same raw step, but further into its retraining.
    a, b = curve("a", {10: 0.5}, trained=1000), curve("b", {10: 0.4, 1000: 0.9}, trained=10)
    assert survivors(asha, (None, 10), [a, b]) == ["a"]


def test_equal_trials_share_their_fate() -> None:
    trials = [curve(name, {10: 0.5}) for name in "abcd"]
    assert survivors(judge("asha", grace="10it", eta=2), (None, 10), trials) == list("abcd")


def test_controls_repeated_recipes_and_figures_that_are_no_numbers_are_not_compared_with() -> None:
    copy = TrialRecords("e", proposed("e", duplicate_of="a"), measured=[measured("e", 10, 0.99)])
    others = [curve("control-dense", {10: 0.99}), copy, curve("d", {10: None})]
    asha = judge("asha", grace="10it", eta=2)
    assert survivors(asha, (None, 10), [curve("a", {10: 0.5}), *others]) == ["a", "control-dense", "e", "d"]


def test_a_trial_that_was_not_measured_there_is_not_stopped() -> None:
    trials = [curve("a", {10: 0.9}), curve("b", {10: 0.8}), curve("c", {5: 0.1})]
    assert "c" in survivors(judge("asha", grace="10it", eta=2), (None, 10), trials)


def test_after_a_round_trials_of_equal_reached_sparsity_are_compared() -> None:
    asha = judge("asha", grace="10it", eta=2)
    # c reached .36 in its first round, and d another sparsity.
    a = chain("a", [(0.2, 0.9), (0.36, 0.7)])
    b = chain("b", [(0.2, 0.9), (0.3600000001, 0.8)])
    c, d = chain("c", [(0.36, 0.75)]), chain("d", [(0.35, 0.1)])
    assert survivors(asha, (0.36, None), [a, b, c, d]) == ["b", "d"]
    assert survivors(asha, (0.35, None), [a, b, c, d]) == ["a", "b", "c", "d"]


def test_rungs_after_rounds_are_powers_of_eta() -> None:
    asha = judge("asha", grace="10it", eta=3)
    levels = (0.2, 0.36, 0.488)
    trials = [chain(name, [(s, value) for s in levels]) for name, value in (("a", 0.1), ("b", 0.5), ("c", 0.9))]
    assert survivors(asha, (0.2, None), trials) == ["c"]
    assert survivors(asha, (0.36, None), trials) == ["a", "b", "c"]
    assert survivors(asha, (0.488, None), trials) == ["c"]


def test_a_retraining_before_the_last_is_not_judged_in_its_middle() -> None:
    trials = [
        TrialRecords(name, proposed(name, rounds=3), measured=[measured(name, 10, value, number=1)])
        for name, value in (("a", 0.1), ("b", 0.9))
    ]
    assert survivors(judge("asha", grace="10it", eta=2), (0.9, 10), trials) == ["a", "b"]


def test_several_objectives_are_ranked_by_their_fronts() -> None:
    wanted = goals([ACCURACY, "maximize sparsity"])
    asha = judge("asha", grace="10it", eta=2)
    front = [curve("a", {10: 0.9}, 0.5), curve("b", {10: 0.5}, 0.9)]
    behind = [curve("c", {10: 0.8}, 0.4), curve("d", {10: 0.4}, 0.8)]
    assert survivors(asha, (None, 10), front + behind, wanted) == ["a", "b"]
    # With nothing dominated, nothing is stopped.
    assert survivors(asha, (None, 10), [*front, curve("e", {10: 0.7}, 0.7)], wanted) == ["a", "b", "e"]


def test_what_meets_the_constraints_goes_before_what_does_not() -> None:
    wanted = goals(constraints=["sparsity >= 0.8"])
    trials = [curve("a", {10: 0.99}, 0.1), curve("b", {10: 0.5}, 0.9)]
    asha = judge("asha", grace="10it", eta=2)
    assert survivors(asha, (None, 10), trials) == ["a"]
    assert survivors(asha, (None, 10), trials, wanted) == ["b"]


@pytest.mark.parametrize("name", ["asha", "median"])
def test_nothing_is_stopped_while_a_constraint_waits_for_the_dense_network(name: str) -> None:
    wanted = goals(constraints=["val/accuracy >= dense - 1%"])
    trials = [curve(str(number), {10: number / 10}) for number in range(8)]
    decider = judge(name, grace="10it")
    known = [t.id for t in trials if not stops(decider, t.id, (None, 10), trials, wanted, {"val/accuracy": 0.5})]
    assert len(known) < 8
    assert len(survivors(decider, (None, 10), trials, wanted)) == 8


def test_the_order_of_the_records_does_not_matter_and_nothing_is_remembered() -> None:
    trials = [curve(str(number), {10: (number * 7 % 11) / 11}) for number in range(11)]
    asha = judge("asha", grace="10it", eta=3)
    assert sorted(survivors(asha, (None, 10), trials)) == sorted(survivors(asha, (None, 10), trials[::-1]))
    assert survivors(asha, (None, 10), trials) == survivors(judge("asha", grace="10it", eta=3), (None, 10), trials)


def test_records_read_back_from_disk_give_the_same_verdicts(tmp_path: Path) -> None:
    trials = [curve(f"{number:06d}", {10: (number * 7 % 11) / 11, 20: 0.5}) for number in range(11)]
    for trial in trials:
        recorder = Recorder(tmp_path, trial.id)
        for record in [*trial.measured, *([trial.proposed] if trial.proposed else [])]:
            recorder.write(record.kind, record.data)
    back = [read_trial(tmp_path / "trials" / trial.id) for trial in trials]
    for name in ("asha", "median"):
        decider = judge(name, grace="10it")
        assert survivors(decider, (None, 10), back) == survivors(decider, (None, 10), trials) != []


# --- median ---------------------------------------------------------------------------------------------------------


def test_median_compares_the_best_so_far_with_the_running_averages_of_the_others() -> None:
    median = judge("median", grace="10it", startup=3)
    # Averages up to 20: .4, .5 and .6, so that the median is .5.
    others = [curve(name, {10: a - 0.1, 20: a + 0.1}) for name, a in (("x", 0.4), ("y", 0.5), ("z", 0.6))]
    cases = {"under": {10: 0.3, 20: 0.49}, "falling": {10: 0.51, 20: 0.1}, "equal": {10: 0.1, 20: 0.5}}
    for name, values in cases.items():
        stopped = stops(median, name, (None, 20), [*others, curve(name, values)])
        assert stopped == (name == "under"), name


def test_median_takes_the_average_only_over_steps_that_the_trial_was_measured_at_too() -> None:
    median = judge("median", grace="10it", startup=1)
    # Measured at 10 as well, the other's average there would be a yardstick of less training.
    other = curve("other", {10: 0.0, 20: 0.8})
    assert stops(median, "a", (None, 20), [other, curve("a", {20: 0.7})])
    assert not stops(median, "a", (None, 20), [other, curve("a", {10: 0.0, 20: 0.7})])


def test_median_waits_for_grace_and_for_enough_others() -> None:
    others = [curve(str(number), {5: 0.9, 10: 0.9}) for number in range(4)]
    bad = curve("bad", {5: 0.1, 10: 0.1})
    assert stops(judge("median", grace="10it", startup=4), "bad", (None, 10), [*others, bad])
    assert not stops(judge("median", grace="10it", startup=4), "bad", (None, 5), [*others, bad])
    assert not stops(judge("median", grace="10it", startup=5), "bad", (None, 10), [*others, bad])


def test_median_does_not_compare_with_trials_that_have_not_come_so_far() -> None:
    others = [curve(str(number), {10: 0.9}) for number in range(4)]
    assert not stops(
        judge("median", grace="10it", startup=1), "bad", (None, 20), [*others, curve("bad", {10: 0.1, 20: 0.1})]
    )


def test_median_follows_a_minimized_objective() -> None:
    def losses(identity: str, value: float) -> TrialRecords:
        trial = curve(identity, {10: 0.5})
        trial.measured[0].data["metrics"]["val/loss"] = value
        return trial

    trials = [losses(str(number), float(number)) for number in range(5)]
    median = judge("median", grace="10it", startup=2)
    assert survivors(median, (None, 10), trials, goals(["minimize val/loss"])) == ["0", "1", "2"]


def test_median_after_a_round_compares_the_values_at_that_sparsity() -> None:
    median = judge("median", startup=2)
    # The first round's accuracy, before anything was lost, is no best so far.
    trials = [chain(name, [(0.2, 0.95), (0.36, value)]) for name, value in (("a", 0.1), ("b", 0.5), ("c", 0.9))]
    assert survivors(median, (0.36, None), trials) == ["b", "c"]


def test_a_trial_that_breaks_a_constraint_is_no_yardstick_for_one_that_keeps_it() -> None:
    wanted = goals(constraints=["sparsity >= 0.8"])
    trials = [curve(str(number), {10: 0.9}, 0.1) for number in range(4)]
    trials += [curve("sparse", {10: 0.5}, 0.9), curve("dense", {10: 0.5}, 0.1)]
    median = judge("median", grace="10it", startup=3)
    assert "sparse" not in survivors(median, (None, 10), trials)
    assert "sparse" in survivors(median, (None, 10), trials, wanted)
    assert "dense" not in survivors(median, (None, 10), trials, wanted)


def test_median_wants_a_measurement_every_grace() -> None:
    assert list(judge("median", grace="2ep").measure_at(61)) == [20, 40, 60]


# --- what is refused ------------------------------------------------------------------------------------------------


def space_of(scheduler: Any, objectives: Sequence[str]) -> Any:
    search = {"scheduler": scheduler, "objectives": list(objectives)}
    return read_space({"preset": "snip", "search": search}, "a test")


def test_median_with_several_objectives_is_refused_in_one_sentence() -> None:
    (problem,) = check_scheduler(space_of("median", [ACCURACY, "maximize sparsity"]))
    assert problem.path == "search.scheduler"
    able = "none or asha or asha-promote"
    assert problem.message == f"median ranks by a single metric, but there are 2 objectives: use {able}"
    assert check_scheduler(space_of("median", [ACCURACY])) == []
    assert check_scheduler(space_of({"name": "asha", "eta": 2}, [ACCURACY, "maximize sparsity"])) == []


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_only_a_scheduler_that_looks_at_the_middle_of_trainings_refuses_what_is_measured_at_the_end(name: str) -> None:
    for objective in (ACCURACY, "minimize train/forward_flops_sparse", "maximize sparsity", "minimize steps_trained"):
        assert check_scheduler(space_of(name, [objective])) == []
    problems = check_scheduler(space_of(name, ["minimize model/bytes"]))
    assert [problem.path for problem in problems] == (["search.scheduler"] if name != "none" else [])


@pytest.mark.parametrize(
    ("name", "grace"), [("asha", "0it"), ("asha", "0%"), ("asha", "end-1ep"), ("median", "0it"), ("median", "5%")]
)
def test_a_grace_that_is_no_length_is_refused(name: str, grace: str) -> None:
    with pytest.raises(UserError, match=r"search\.scheduler\.grace"):
        space_of({"name": name, "grace": grace}, [ACCURACY])


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_every_scheduler_makes_a_judge_that_lets_a_single_trial_go_on(name: str) -> None:
    decider = judge(name)
    assert all(0 < step < 100 for step in decider.measure_at(100))
    assert survivors(decider, (None, EPOCH), [curve("a", {EPOCH: 0.1})]) == ["a"]
