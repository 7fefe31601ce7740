"""Proposals are a pure function of the records; what a sampler learns from, and what it cannot do."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import Record, Recorder, TrialRecords, read_trial, trial_id
from prune_search.recipe.axes import SAMPLERS
from prune_search.recipe.clock import resolve
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe, canonical_json
from prune_search.recipe.space import Space, known_epoch, read_space
from prune_search.search import proposer as module
from prune_search.search.proposer import Proposal, Proposer, check_sampler, frozen_trial

Blocks = dict[str, Any]
Metrics = Callable[[Proposal], Mapping[str, Any]]
BOTH = ["maximize val/accuracy", "maximize sparsity"]
ONE = ["maximize val/accuracy"]

CONDITIONAL: Blocks = {
    "train": {"steps": "3ep", "optimizer": {"lr": {"hole": "loguniform", "low": 0.01, "high": 1.0}}},
    "any": [
        {"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.98, "step": 0.07}}},
        {
            "preset": "lottery-ticket",
            "rounds": {"hole": "int", "low": 1, "high": 8, "step": 2},
            "weights": {"at": {"hole": "choice", "of": ["0it", "1ep", "2ep"]}},
        },
        {"preset": "fine-tune", "retrain": {"steps": {"hole": "uniform", "low": "0ep", "high": "2ep"}}},
    ],
}
SPARSE = {"hole": "uniform", "low": 0.5, "high": 0.98}
SPARSITY: Blocks = {"preset": "snip", "mask": {"sparsity": {"hole": "uniform", "low": 0.0, "high": 0.99}}}


def space_of(blocks: Blocks, sampler: Any, objectives: Sequence[str] = ONE, **search: Any) -> Space:
    written = {**blocks, "search": {"sampler": sampler, "objectives": list(objectives), **search}}
    return read_space(written, "a test")


def record(number: int, kind: Any, data: Mapping[str, Any]) -> Record:
    return Record(trial_id(number), kind, 1, 0, 0.0, data)


def proposed(proposal: Proposal, duplicate_of: str | None = None) -> TrialRecords:
    data = {
        "number": proposal.number,
        "recipe": proposal.recipe.canonical,
        "params": dict(proposal.params),
        "sampler": proposal.sampler,
        "duplicate_of": duplicate_of,
    }
    return TrialRecords(trial_id(proposal.number), record(proposal.number, "proposed", data))


def ended(trial: TrialRecords, metrics: Mapping[str, Any] | None, status: str = "completed") -> TrialRecords:
    result = None if metrics is None else {"key": trial.id, "metrics": dict(metrics)}
    trial.ended = record(int(trial.id), "ended", {"status": status, "result": result})
    return trial


def noisy(proposal: Proposal) -> Blocks:
    """Figures that depend on the proposal alone, and not smoothly."""
    rng = random.Random(canonical_json(dict(proposal.params)))
    return {"val/accuracy": rng.random(), "sparsity": rng.random()}


def course(
    space: Space, trials: int, metrics: Metrics = noisy, known: Sequence[TrialRecords] = ()
) -> list[TrialRecords]:
    """A search in which every trial but the last two has ended when the next is proposed."""
    proposer, found, waiting = Proposer(space, known_epoch), list(known), []
    for number in range(len(found) + 1, len(found) + trials + 1):
        proposal = proposer.propose(number, found, None)
        assert proposal is not None
        found.append(proposed(proposal))
        waiting.append((found[-1], proposal))
        if len(waiting) > 2:
            trial, before = waiting.pop(0)
            ended(trial, metrics(before))
    return found


def drawn(proposal: Proposal | None) -> Any:
    return None if proposal is None else (proposal.number, proposal.option, dict(proposal.params), proposal.sampler)


# Options that make each sampler leave its random beginning within so many trials.
SAMPLED: dict[str, tuple[Blocks, int]] = {
    "random": ({}, 24),
    "tpe": ({"startup": 5}, 24),
    "nsga2": ({"population": 4}, 24),
    "gp": ({"startup": 2}, 4),
    "guided": ({}, 12),
    "grid": ({}, 24),
}
EVERY_SAMPLER = [pytest.param({"name": name, **options}, n, id=name) for name, (options, n) in SAMPLED.items()]
# What fits Gaussian processes takes seconds.
FITTED = ("gp", "guided")
FAST_SAMPLERS = [case for case in EVERY_SAMPLER if case.id not in FITTED]
SLOW_SAMPLERS = [
    pytest.param(*case.values, id=case.id, marks=pytest.mark.slow) for case in EVERY_SAMPLER if case.id in FITTED
]


def taken_by(sampler: Blocks) -> Blocks:
    """A space that the sampler takes."""
    return SPARSITY if sampler["name"] == "gp" else CONDITIONAL


def test_every_registered_sampler_is_tested_here() -> None:
    assert set(SAMPLED) == set(SAMPLERS)


# --- purity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [ONE, BOTH], ids=["one", "two"])
@pytest.mark.parametrize(("sampler", "trials"), [*FAST_SAMPLERS, *SLOW_SAMPLERS])
def test_the_same_records_give_the_same_proposal(
    sampler: Any, trials: int, objectives: list[str], tmp_path: Path
) -> None:
    space = space_of(taken_by(sampler), sampler, objectives, constraints=["sparsity >= 0.3"])
    known = course(space, trials)
    for trial in known:
        recorder = Recorder(tmp_path, trial.id)
        for each in (trial.proposed, trial.ended):
            if each is not None:
                recorder.write(each.kind, each.data)
    back = [read_trial(tmp_path / "trials" / trial.id) for trial in known]
    shuffled = random.Random(0).sample(back, len(back))
    warm = Proposer(space, known_epoch)
    first = drawn(warm.propose(trials + 1, known, None))
    assert first is not None
    assert drawn(warm.propose(trials + 1, known, None)) == first
    assert drawn(Proposer(space, known_epoch).propose(trials + 1, back, None)) == first
    assert drawn(warm.propose(trials + 1, shuffled, None)) == first


def test_a_proposer_that_saw_the_whole_course_and_a_new_one_propose_alike() -> None:
    space = space_of(CONDITIONAL, {"name": "tpe", "startup": 4}, BOTH)
    for number, trial in enumerate(course(space, 15), 1):
        seen = course(space, number - 1)
        fresh = Proposer(space, known_epoch).propose(number, seen, None)
        assert fresh is not None
        assert trial.proposed is not None
        assert fresh.sampler == trial.proposed.data["sampler"]


def test_a_cached_trial_is_looked_at_again_when_its_records_have_changed() -> None:
    space = space_of(SPARSITY, {"name": "tpe", "startup": 3})
    known = course(space, 12)
    warm = Proposer(space, known_epoch)
    before = drawn(warm.propose(13, known, None))
    for trial in known[-2:]:
        ended(trial, {"val/accuracy": 5.0, "sparsity": 0.5})
    after = drawn(warm.propose(13, known, None))
    assert after == drawn(Proposer(space, known_epoch).propose(13, known, None))
    assert after != before


def test_seed_and_number_decide_the_draw() -> None:
    def first(number: int, seed: int) -> Any:
        proposal = Proposer(space_of(SPARSITY, "random", seed=seed), known_epoch).propose(number, [], None)
        assert proposal is not None
        return proposal.params["mask.sparsity"]

    assert len({first(1, 0), first(2, 0), first(1, 1), first(2, 1)}) == 4
    assert first(1, 0) == first(1, 0)


SCRIPT = """
import json, sys
sys.path.insert(0, {folder!r})
import test_proposer as t
space = t.space_of(t.CONDITIONAL, {{"name": "tpe", "startup": 4}}, t.BOTH)
print(json.dumps([trial.proposed.data["sampler"] for trial in t.course(space, 12)]))
"""


def test_another_process_with_other_hashes_proposes_the_same() -> None:
    space = space_of(CONDITIONAL, {"name": "tpe", "startup": 4}, BOTH)
    here = [trial.proposed.data["sampler"] for trial in course(space, 12) if trial.proposed]
    code = SCRIPT.format(folder=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == here


# --- conditional spaces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "trials"), EVERY_SAMPLER)
def test_every_proposal_is_a_valid_recipe_and_plain_data(sampler: Any, trials: int) -> None:
    for trial in course(space_of(taken_by(sampler), sampler, BOTH), trials):
        assert trial.proposed is not None
        recipe = Recipe.read({key: value for key, value in trial.recipe.items() if key != "schema"})
        epoch = known_epoch(recipe)
        assert epoch is not None
        resolve(recipe, epoch)
        assert json.loads(canonical_json(trial.proposed.data["sampler"])) == trial.proposed.data["sampler"]


def test_the_sampler_keeps_the_options_apart_and_the_params_do_not() -> None:
    seen: dict[str, set[str]] = {}
    for trial in course(space_of(CONDITIONAL, "random"), 30):
        assert trial.proposed is not None
        data = trial.proposed.data
        seen.setdefault(data["params"]["any"], set()).update(data["sampler"]["params"])
        assert set(data["sampler"]["params"]) == set(data["sampler"]["distributions"])
    assert seen["snip"] == {"any", "train.optimizer.lr", "any[snip].mask.sparsity"}
    lottery = {"any[lottery-ticket].rounds", "any[lottery-ticket].weights.at"}
    assert seen["lottery-ticket"] == {"any", "train.optimizer.lr"} | lottery
    assert seen["fine-tune"] == {"any", "train.optimizer.lr", "any[fine-tune].retrain.steps"}


def test_a_range_that_is_no_multiple_of_its_step_ends_at_the_last_step() -> None:
    sparsities, rounds = set(), set()
    for trial in course(space_of(CONDITIONAL, "random"), 60):
        sparsities.add(trial.params.get("mask.sparsity"))
        rounds.add(trial.params.get("rounds"))
    assert sparsities - {None} == {0.5, 0.57, 0.64, 0.71, 0.78, 0.85, 0.92}
    assert rounds - {None} == {1, 3, 5, 7}


def test_tpe_learns_which_option_is_good() -> None:
    def metrics(proposal: Proposal) -> Blocks:
        return {"val/accuracy": 0.9 if proposal.option == "fine-tune" else 0.1, "sparsity": 0.5}

    known = [ended(proposed(proposal), metrics(proposal)) for proposal in many(CONDITIONAL, 40)]
    proposer = Proposer(space_of(CONDITIONAL, "tpe"), known_epoch)
    proposals = [proposer.propose(number, known, None) for number in range(100, 130)]
    assert [trial.params["any"] for trial in known].count("fine-tune") < 20
    assert [proposal.option for proposal in proposals if proposal].count("fine-tune") > 25


def test_no_word_of_optuna_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    course(space_of(CONDITIONAL, {"name": "tpe", "startup": 3}, BOTH), 6)
    assert capfd.readouterr() == ("", "")


# --- what the sampler is told ---------------------------------------------------------------------------------------

GOALS = Goals.of({"objectives": ONE, "constraints": ["sparsity >= 0.8"]})


def one_trial() -> TrialRecords:
    return course(space_of(SPARSITY, "random"), 1)[0]


def test_a_completed_trial_has_its_value_and_by_how_much_it_violates() -> None:
    told = frozen_trial(ended(one_trial(), {"val/accuracy": 0.5, "sparsity": 0.7}), GOALS, None)
    assert (told.state, told.values) == (TrialState.COMPLETE, [0.5])
    assert told.constraints == {"0": pytest.approx(0.1)}


def test_a_repeated_recipe_is_told_like_any_other() -> None:
    trial = one_trial()
    assert trial.proposed is not None
    copy = TrialRecords(trial.id, record(1, "proposed", {**trial.proposed.data, "duplicate_of": "000009"}))
    told = frozen_trial(ended(copy, {"val/accuracy": 0.5, "sparsity": 0.7}), GOALS, None)
    assert (told.state, told.values) == (TrialState.COMPLETE, [0.5])


def test_one_that_has_not_ended_is_running() -> None:
    trial = one_trial()
    told = frozen_trial(trial, GOALS, None)
    assert told.state is TrialState.RUNNING
    assert told.params == {"mask.sparsity": trial.params["mask.sparsity"]}


@pytest.mark.parametrize("figure", [None, float("nan"), float("inf")])
def test_a_failed_trial_or_one_without_a_figure_is_failed(figure: Any) -> None:
    assert frozen_trial(ended(one_trial(), None, "failed"), GOALS, None).state is TrialState.FAIL
    for metrics in ({"val/accuracy": figure, "sparsity": 0.9}, {"val/accuracy": 0.5, "sparsity": figure}):
        assert frozen_trial(ended(one_trial(), metrics), GOALS, None).state is TrialState.FAIL


def stopped() -> TrialRecords:
    trial = one_trial()
    for step, accuracy in ((10, 0.3), (30, 0.4)):
        data = {"round": 1, "step": step, "metrics": {"val/accuracy": accuracy}, "sparsity": 0.7, "steps_trained": step}
        trial.measured.append(record(1, "measured", data))
    return ended(trial, None, "stopped")


def test_a_stopped_trial_is_pruned_with_its_last_value() -> None:
    told = frozen_trial(stopped(), GOALS, None)
    assert told.state is TrialState.PRUNED
    assert told.intermediate_values == {2: 0.4}
    assert told.constraints == {"0": pytest.approx(0.1)}


def test_stopped_trials_do_not_disturb_a_search_with_several_objectives() -> None:
    both = Goals.of({"objectives": BOTH, "constraints": []})
    assert frozen_trial(stopped(), both, None).intermediate_values == {}
    space = space_of(SPARSITY, {"name": "tpe", "startup": 2}, BOTH)
    known = [stopped(), *course(space, 8)[1:]]
    assert Proposer(space, known_epoch).propose(9, known, None) is not None


def test_failed_trials_and_controls_teach_nothing() -> None:
    space = space_of(SPARSITY, {"name": "tpe", "startup": 3})
    known = course(space, 10)
    broken = course(space, 2, known=known)[-2:]
    ended(broken[0], None, "failed")
    ended(broken[1], {"val/accuracy": None, "sparsity": 0.5})
    control = TrialRecords("control-dense", record(0, "proposed", {"number": 0, "sampler": None}))
    proposer = Proposer(space, known_epoch)
    assert drawn(proposer.propose(13, [*known, *broken, control], None)) == drawn(proposer.propose(13, known, None))


def sparsities(space: Space, known: Sequence[TrialRecords], dense: Any = None) -> list[float]:
    """Where proposals made from the same records, with other seeds, lie."""
    proposer = Proposer(space, known_epoch)
    proposals = [proposer.propose(number, known, dense) for number in range(100, 115)]
    return [float(proposal.params["mask.sparsity"]) for proposal in proposals if proposal is not None]


def falling(proposal: Proposal) -> Blocks:
    """The sparser, the less accurate."""
    sparsity = proposal.params["mask.sparsity"]
    return {"val/accuracy": 1.0 - sparsity, "sparsity": sparsity}


def test_a_constraint_changes_where_tpe_samples() -> None:
    sampler = {"name": "tpe", "startup": 10}
    known = [ended(trial, falling(p)) for trial, p in random_trials(40)]
    free = sparsities(space_of(SPARSITY, sampler), known)
    bound = sparsities(space_of(SPARSITY, sampler, constraints=["sparsity >= 0.7"]), known)
    assert max(free) < 0.2
    assert min(bound) > 0.7


def random_trials(count: int) -> list[tuple[TrialRecords, Proposal]]:
    proposer = Proposer(space_of(SPARSITY, "random"), known_epoch)
    proposals = [proposer.propose(number, [], None) for number in range(1, count + 1)]
    return [(proposed(proposal), proposal) for proposal in proposals if proposal is not None]


def test_a_constraint_relative_to_the_dense_network_counts_as_soon_as_that_is_known() -> None:
    sampler = {"name": "tpe", "startup": 10}
    objectives = ["maximize sparsity"]
    known = [ended(trial, falling(p)) for trial, p in random_trials(40)]
    free = space_of(SPARSITY, sampler, objectives)
    bound = space_of(SPARSITY, sampler, objectives, constraints=["val/accuracy >= dense - 50%"])
    dense = {"val/accuracy": 1.0}
    assert sparsities(bound, known) == sparsities(free, known)
    assert statistics.median(sparsities(free, known)) > 0.8
    assert 0.3 < statistics.median(sparsities(bound, known, dense)) < 0.55


def test_tpe_keeps_away_from_what_is_running() -> None:
    space = space_of(SPARSITY, {"name": "tpe", "startup": 10})
    known = [ended(trial, falling(p)) for trial, p in random_trials(30)]
    best = min(known, key=lambda trial: trial.params["mask.sparsity"])
    assert best.proposed is not None
    there = [
        TrialRecords(trial_id(number), record(number, "proposed", {**best.proposed.data, "number": number}))
        for number in range(31, 51)
    ]
    alone, beside = sparsities(space, known), sparsities(space, [*known, *there])
    distance = [[abs(value - best.params["mask.sparsity"]) for value in values] for values in (alone, beside)]
    assert statistics.median(distance[1]) > 1.5 * statistics.median(distance[0])


# --- invalid regions ------------------------------------------------------------------------------------------------

PARTLY_INVALID: Blocks = {
    "preset": "snip",
    "train": {"steps": "4ep"},
    "retrain": {"steps": {"hole": "uniform", "low": "1ep", "high": "12ep"}, "clock": "0it"},
}


@pytest.mark.parametrize("sampler", ["random", {"name": "tpe", "startup": 5}, {"name": "nsga2", "population": 4}])
def test_what_lies_in_an_invalid_region_is_drawn_again(sampler: Any) -> None:
    known = course(space_of(PARTLY_INVALID, sampler), 25)
    assert len({trial.params["retrain.steps"] for trial in known}) > 5
    for trial in known:
        recipe = Recipe.read({key: value for key, value in trial.recipe.items() if key != "schema"})
        assert resolve(recipe, known_epoch(recipe) or 0).retrain_steps > 0


def test_where_the_length_of_an_epoch_is_not_known_nothing_is_drawn_again_for_its_sake() -> None:
    space = space_of(PARTLY_INVALID, "random")
    proposals = [Proposer(space, lambda recipe: None).propose(number, [], None) for number in range(1, 20)]
    epochs = [int(str(proposal.params["retrain.steps"]).split("ep")[0]) for proposal in proposals if proposal]
    assert max(epochs) >= 4


def test_a_space_without_a_valid_point_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DRAWS", 20)

    def never(recipe: Recipe) -> int:
        raise UserError("there is no such epoch")

    with pytest.raises(UserError, match=r"20 draws in a row fell in an invalid region.*no such epoch"):
        Proposer(space_of(SPARSITY, "random"), never).propose(1, [], None)


# --- what a sampler cannot do ---------------------------------------------------------------------------------------


def test_gp_refuses_holes_that_only_some_options_have() -> None:
    (problem,) = check_sampler(space_of(CONDITIONAL, "gp"))
    assert problem.path == "search.sampler"
    assert "any[snip].mask.sparsity" in problem.message
    assert "use tpe" in problem.message


def test_gp_refuses_a_hole_whose_range_follows_another_draw() -> None:
    blocks = {**PARTLY_INVALID, "train": {"steps": "4ep", "batch": {"hole": "choice", "of": [64, 128]}}}
    assert check_sampler(space_of(blocks, "gp")) == []
    steps = {"hole": "int", "low": "1ep5it", "high": "2ep5it"}
    (problem,) = check_sampler(space_of({**blocks, "retrain": {"steps": steps, "clock": "0it"}}, "gp"))
    assert "retrain.steps" in problem.message


def test_gp_refuses_more_objectives_than_it_takes() -> None:
    five = [*BOTH, "minimize val/loss", "minimize steps_trained", "minimize collapsed"]
    assert check_sampler(space_of(SPARSITY, "gp", five[:4])) == []
    (problem,) = check_sampler(space_of(SPARSITY, "gp", five))
    assert problem.message == "gp takes at most 4 objectives (got 5): use tpe or nsga2"


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "grid"])
def test_the_other_samplers_take_any_space(sampler: str) -> None:
    assert check_sampler(space_of(CONDITIONAL, sampler, [*BOTH, "minimize steps_trained"])) == []


# --- long searches --------------------------------------------------------------------------------------------------


def test_a_trial_that_has_ended_is_made_known_to_optuna_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(trial: TrialRecords, *more: Any) -> Any:
        made.append(trial.id)
        return frozen_trial(trial, *more)

    monkeypatch.setattr(module, "frozen_trial", counted)
    trials = [ended(proposed(proposal), noisy(proposal)) for proposal in many(CONDITIONAL, 40)]
    proposer = Proposer(space_of(CONDITIONAL, "tpe", BOTH), known_epoch)
    for known in range(20, 41):
        proposer.propose(41, trials[:known], None)
    assert sorted(made) == sorted({trial.id for trial in trials})


def many(blocks: Blocks, count: int) -> list[Proposal]:
    proposer = Proposer(space_of(blocks, "random"), known_epoch)
    found = [proposer.propose(number, [], None) for number in range(1, count + 1)]
    return [proposal for proposal in found if proposal is not None]


def test_nsga2_goes_through_hundreds_of_generations() -> None:
    (one,) = many(SPARSITY, 1)
    trials = []
    for number in range(1, 1001):
        sampler = {**one.sampler, "system": {"NSGAIISampler:generation": (number - 1) // 2}}
        trials.append(ended(proposed(replace(one, number=number, sampler=sampler)), noisy(one)))
    proposal = Proposer(space_of(SPARSITY, {"name": "nsga2", "population": 2}), known_epoch).propose(1001, trials, None)
    assert proposal is not None
    assert proposal.sampler["system"] == {"NSGAIISampler:generation": 500}


# --- recipes that are tried first ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "trials"), FAST_SAMPLERS)
def test_recipes_to_begin_with_come_first_and_a_fresh_process_goes_on_alike(sampler: Blocks, trials: int) -> None:
    begin = ["snip", {"preset": "lottery-ticket", "weights": {"at": "1ep"}, "rounds": 3}]
    blocks = {**CONDITIONAL, "any": [{"preset": "snip", "mask": {"sparsity": SPARSE}}, *CONDITIONAL["any"][1:]]}
    space = space_of(blocks, sampler, begin=begin)
    known = [ended(trial, {"val/accuracy": 0.5, "sparsity": 0.5}) for trial in course(space, 4)]
    first, second = (trial.params for trial in known[:2])
    assert (first["any"], first["mask.sparsity"]) == ("snip", 0.95)
    assert 0.01 <= first["train.optimizer.lr"] <= 1.0
    assert (second["any"], second["weights.at"], second["rounds"]) == ("lottery-ticket", "1ep", 3)
    fresh = [Proposer(space, known_epoch).propose(number, known[: number - 1], None) for number in range(1, 5)]
    assert [one.begun for one in fresh if one] == ["snip", "lottery-ticket (recipe 2)", "", ""]
    for one, trial in zip(fresh[:2], known, strict=False):
        assert one is not None
        assert one.sampler == (trial.proposed and trial.proposed.data["sampler"])
    if sampler["name"] == "grid":
        assert len({str(trial.recipe) for trial in known}) == len(known)
