"""When a cheaper form of a recipe is run first, what it tells of the recipe, and that records alone decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from guided_trials import space_of, told

from prune_search.ledger.fidelities import LEAST_PAIRS, judged
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import Record, TrialRecords, low_fidelity_id
from prune_search.recipe.fidelity import Fidelity
from prune_search.recipe.recipe import digest_of
from prune_search.recipe.space import Space, known_epoch
from prune_search.search.guided.low_fidelity import MOST_UNPAIRED, PART
from prune_search.search.proposer import Proposal, Proposer

BLOCKS: dict[str, Any] = {
    "train": {"steps": "60ep", "batch": 64},
    "mask": {"at": "end", "criterion": "magnitude", "sparsity": 0.9},
    "weights": {"at": {"hole": "choice", "of": ["0it", "1ep", "5ep", "25%", "50%", "end"]}},
    "retrain": {"steps": "30ep", "clock": {"hole": "choice", "of": ["0it", "25%", "50%"]}},
}
SHORTER = [{"steps": 0.25}]
GOALS = Goals.of({"objectives": ["maximize val/accuracy"], "constraints": []})
GUIDED = {"name": "guided", "prior": False}


def asked(fidelity: Any = SHORTER, **search: Any) -> Space:
    more = {} if fidelity is None else {"fidelity": fidelity}
    return space_of(BLOCKS, ["maximize val/accuracy"], sampler=GUIDED, concurrency=1, **more, **search)


def truth(number: int) -> float:
    """A figure of the recipe, by its number among those that are proposed."""
    return 0.8 + 0.01 * (number * 7 % 11)


def full_told(proposal: Proposal, figure: float | None) -> TrialRecords:
    trial = told(proposal, None if figure is None else {"val/accuracy": figure})
    assert trial.proposed is not None
    data = {**trial.proposed.data, "digest": digest_of(proposal.recipe.canonical)}
    trial.proposed = Record(trial.id, "proposed", 1, 0, 0.0, data)
    return trial


def low_told(proposal: Proposal, number: int, figure: float | None) -> TrialRecords:
    """As its records tell it; without a figure it runs."""
    assert proposal.cheaper is not None
    trial = full_told(proposal, figure)
    assert trial.proposed is not None
    recipe, whole = proposal.cheaper.candidate.recipe.canonical, proposal.recipe.canonical
    about = {"label": proposal.cheaper.form.label, "of": digest_of(whole), "whole": whole, "price": 0.25}
    data = {**trial.proposed.data, "number": number, "recipe": recipe, "digest": digest_of(recipe), "fidelity": about}
    identity = low_fidelity_id(number)
    ended = None if trial.ended is None else Record(identity, "ended", 1, 0, 0.0, trial.ended.data)
    return TrialRecords(identity, Record(identity, "proposed", 1, 0, 0.0, data), ended=ended)


def searched(
    space: Space, count: int, cheap: Callable[[float], float | None]
) -> tuple[list[TrialRecords], list[TrialRecords]]:
    """So many full trials and the low-fidelity ones between them; `cheap` is what these measure of a full figure."""
    proposer, full, low = Proposer(space, known_epoch), list[TrialRecords](), list[TrialRecords]()
    figures: dict[str, float] = {}
    while len(full) < count:
        proposal = proposer.propose(len(full) + 1, full, None, low)
        assert proposal is not None
        digest = digest_of(proposal.recipe.canonical)
        figure = figures.setdefault(digest, truth(len(figures)))
        if proposal.cheaper is None:
            full.append(full_told(proposal, figure))
        else:
            low.append(low_told(proposal, len(low) + 1, cheap(figure)))
    return full, low


def test_the_first_trial_is_a_full_one_and_cheaper_forms_follow() -> None:
    proposer = Proposer(asked(), known_epoch)
    first = proposer.propose(1, [], None, [])
    assert first is not None
    assert first.cheaper is None
    second = proposer.propose(2, [full_told(first, 0.9)], None, [])
    assert second is not None
    assert second.cheaper is not None
    assert second.cheaper.form == Fidelity(steps=0.25)
    assert second.cheaper.of == digest_of(second.recipe.canonical)
    assert second.cheaper.price == pytest.approx(0.25, abs=0.01)


def test_without_the_option_proposals_are_what_they_were() -> None:
    full, low = searched(asked(None), 6, lambda figure: figure)
    assert low == []
    assert [trial.id for trial in full] == [f"{number:06d}" for number in range(1, 7)]


def test_a_form_that_ranks_the_wrong_way_round_is_dropped() -> None:
    space = asked()
    right, wrong = (searched(space, 14, cheap) for cheap in (lambda figure: figure - 0.1, lambda figure: 1.6 - figure))
    ((of_right,), (of_wrong,)) = (judged([Fidelity(steps=0.25)], low, full, GOALS) for full, low in (right, wrong))
    assert (of_right.used, of_wrong.used) == (True, False)
    assert len(of_wrong.pairs) >= LEAST_PAIRS
    assert of_wrong.trials <= MOST_UNPAIRED + LEAST_PAIRS
    assert of_wrong.trials < of_right.trials


def test_forms_wait_for_their_recipes_until_enough_pairs_are_known() -> None:
    # Nothing is learned of a form whose trials fail.
    _, low = searched(asked(), 8, lambda figure: None)
    assert len(low) == MOST_UNPAIRED


def test_low_fidelity_trials_never_ask_for_more_than_half_the_steps_of_the_full_ones() -> None:
    full, low = searched(asked(), 6, lambda figure: figure)
    assert 1 <= 0.25 * len(low) / PART <= len(full)
    # Not one of these is within half of the first recipe.
    assert searched(asked([{"steps": 0.6}]), 2, lambda figure: figure)[1] == []


def test_what_cheaper_forms_measured_leads_to_better_recipes_first() -> None:
    plain, _ = searched(asked(None), 5, lambda figure: figure)
    helped, _ = searched(asked(), 5, lambda figure: figure)
    assert helped[0].recipe == plain[0].recipe
    assert [trial.recipe for trial in helped] != [trial.recipe for trial in plain]


def test_proposals_depend_on_the_records_alone() -> None:
    full, low = searched(asked(), 5, lambda figure: figure - 0.1)
    anew = Proposer(asked(), known_epoch).propose(6, full[::-1], None, low[::-1])
    again = Proposer(asked(), known_epoch).propose(6, full, None, low)
    assert anew is not None
    assert again is not None
    assert anew.recipe == again.recipe
    assert [one and one.candidate.digest for one in (anew.cheaper, again.cheaper)] == 2 * [
        again.cheaper and again.cheaper.candidate.digest
    ]


def test_a_recipe_whose_form_runs_is_not_run_itself_meanwhile() -> None:
    proposer = Proposer(asked(), known_epoch)
    first = proposer.propose(1, [], None, [])
    assert first is not None
    known = [full_told(first, 0.9)]
    second = proposer.propose(2, known, None, [])
    assert second is not None
    assert second.cheaper is not None
    running = low_told(second, 1, None)
    running.ended = None
    third = proposer.propose(2, known, None, [running])
    assert third is not None
    assert digest_of(third.recipe.canonical) != digest_of(second.recipe.canonical)
