"""What low-fidelity trials tell: rank correlations with the full recipes, and when a form is worth its price."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scipy.stats import kendalltau

from prune_search.ledger.fidelities import BEFORE, LEAST_PAIRS, Judgement, judged, kendall
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import Record, TrialRecords, low_fidelity_id, trial_id
from prune_search.recipe.fidelity import Fidelity

GOALS = Goals.of({"objectives": ["maximize sparsity", "minimize val/loss"], "constraints": []})


def made(identity: str, figure: float | None, **proposed: Any) -> TrialRecords:
    trial = TrialRecords(identity, Record(identity, "proposed", 1, 0, 0.0, {"duplicate_of": None, **proposed}))
    status = "failed" if figure is None else "completed"
    result = None if figure is None else {"metrics": {"val/loss": figure, "sparsity": 0.5}}
    trial.ended = Record(identity, "ended", 1, 0, 0.0, {"status": status, "result": result})
    return trial


def full(number: int, figure: float | None) -> TrialRecords:
    return made(trial_id(number), figure, digest=f"d{number}")


def low(number: int, figure: float | None, of: int, label: str = "steps 0.25") -> TrialRecords:
    return made(low_fidelity_id(number), figure, fidelity={"label": label, "of": f"d{of}", "price": 0.25})


def of_pairs(*pairs: tuple[float, float], share: float = 0.25) -> Judgement:
    return Judgement("steps 0.25", len(pairs), len(pairs), share, pairs)


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_correlation_is_kendalls_with_ties(seed: int) -> None:
    draw = random.Random(seed)
    pairs = [(float(draw.randrange(6)), float(draw.randrange(6))) for _ in range(12)]
    assert kendall(pairs) == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)


def test_where_nothing_is_ranked_there_is_no_correlation() -> None:
    assert kendall([]) is kendall([(1.0, 2.0)]) is kendall([(1.0, 2.0), (1.0, 3.0)]) is None


def test_pairs_are_recipes_with_a_figure_at_both_fidelities() -> None:
    forms = [Fidelity(steps=0.25), Fidelity(rounds=0.5)]
    cheap = [low(1, 0.5, 1), low(2, 0.4, 2), low(3, None, 3), low(4, 0.3, 9), low(5, 0.2, 1, "rounds 0.5")]
    first, second = judged(forms, cheap, [full(1, 0.15), full(2, 0.1), full(3, 0.2)], GOALS)
    # Of the objectives the first that is measured on data.
    assert (first.trials, first.completed, first.pairs) == (4, 3, ((0.5, 0.15), (0.4, 0.1)))
    assert (first.kendall, first.share) == (1.0, 0.25)
    assert (second.pairs, second.kendall) == (((0.2, 0.15),), None)


def test_a_form_is_used_until_enough_pairs_say_that_it_is_not_worth_it() -> None:
    wrong = [(0.1, 0.4), (0.2, 0.3), (0.3, 0.2), (0.4, 0.1)]
    assert of_pairs(*wrong[: LEAST_PAIRS - 1]).used
    assert not of_pairs(*wrong[:LEAST_PAIRS]).used
    assert of_pairs(*((x, x) for x, _ in wrong)).used


def test_what_is_hardly_cheaper_must_rank_better() -> None:
    mixed = ((0.1, 0.1), (0.2, 0.3), (0.3, 0.2), (0.4, 0.4), (0.5, 0.6), (0.6, 0.5))
    assert of_pairs(*mixed, share=0.1).used
    assert not of_pairs(*mixed, share=0.9).used


def test_few_pairs_count_little() -> None:
    few = of_pairs((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))
    many = of_pairs(*((x / 20, x / 20) for x in range(20)))
    assert few.kendall == many.kendall == 1.0
    assert BEFORE < few.correlation < many.correlation < 1.0


def test_equal_figures_rank_nothing() -> None:
    assert of_pairs(*((0.5, y / 10) for y in range(9))).correlation < of_pairs((0.5, 0.1)).correlation
