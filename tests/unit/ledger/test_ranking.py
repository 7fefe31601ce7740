"""Which trials come first: against brute force, and by hand."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_search.ledger.ranking import Goals, non_dominated_ranks
from prune_search.ledger.records import Record, TrialRecords

ACCURATE_AND_SPARSE = ("maximize val/accuracy", "maximize sparsity")
Points = list[tuple[float, ...]]


def goals(objectives: Sequence[str] = ACCURATE_AND_SPARSE, constraints: Sequence[str] = ()) -> Goals:
    return Goals.of({"objectives": list(objectives), "constraints": list(constraints)})


def figures(accuracy: float | None, sparsity: float = 0.9, **more: Any) -> dict[str, Any]:
    return {"val/accuracy": accuracy, "sparsity": sparsity, **more}


def trial(
    name: str, metrics: Mapping[str, Any], status: str = "completed", key: str = "", duplicate_of: str | None = None
) -> TrialRecords:
    proposed = Record(name, "proposed", 1, 0, 0.0, {"duplicate_of": duplicate_of})
    result = {"key": key or f"key-{name}", "metrics": dict(metrics)}
    ended = Record(name, "ended", 1, 0, 0.0, {"status": status, "result": None if status == "failed" else result})
    return TrialRecords(name, proposed, ended=ended)


def names(trials: Sequence[TrialRecords]) -> list[str]:
    return [trial.id for trial in trials]


# --- ranks ----------------------------------------------------------------------------------------------------------


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


def ranks_by_peeling(points: Points) -> list[int]:
    ranks: dict[int, int] = {}
    while len(ranks) < len(points):
        left = [index for index in range(len(points)) if index not in ranks]
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        rank = max(ranks.values(), default=-1) + 1
        ranks.update(dict.fromkeys(front, rank))
    return [ranks[index] for index in range(len(points))]


FEW_VALUES = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0])


@settings(deadline=None)
@given(st.integers(1, 4).flatmap(lambda size: st.lists(st.tuples(*[FEW_VALUES] * size), max_size=25)))
def test_ranks_are_those_of_peeling_one_front_after_the_other(points: Points) -> None:
    assert non_dominated_ranks(points) == ranks_by_peeling(points)


def test_ranks_of_many_random_points_are_those_of_peeling() -> None:
    rng = random.Random(0)
    points: Points = [(rng.random(), rng.random(), rng.random()) for _ in range(120)]
    assert non_dominated_ranks(points) == ranks_by_peeling(points)


def test_with_one_objective_the_rank_is_the_place_among_distinct_values() -> None:
    assert non_dominated_ranks([(3.0,), (1.0,), (3.0,), (2.0,)]) == [0, 2, 0, 1]


def test_no_points_have_no_ranks() -> None:
    assert non_dominated_ranks([]) == []


# --- figures and constraints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, "0.9", True])
def test_a_figure_that_is_no_finite_number_makes_the_values_unknown(bad: Any) -> None:
    assert goals().values({"val/accuracy": bad, "sparsity": 0.9}) is None


def test_a_missing_figure_makes_the_values_unknown() -> None:
    assert goals().values({"sparsity": 0.9}) is None
    assert goals().values({"val/accuracy": 0.5, "sparsity": 0.9}) == (0.5, 0.9)


def test_a_violation_says_by_how_much_and_a_met_constraint_how_much_room_is_left() -> None:
    wanted = goals(constraints=["sparsity >= 90%", "steps_trained <= 1000"])
    assert wanted.violations({"sparsity": 0.7, "steps_trained": 400}, None) == pytest.approx([0.2, -600])
    assert wanted.violations({"sparsity": 0.95, "steps_trained": 1500}, None) == pytest.approx([-0.05, 500])


def test_a_bound_that_is_reached_exactly_is_met_in_floating_point_too() -> None:
    assert 1 - 0.9 < 0.1
    assert goals(constraints=["sparsity >= 0.1"]).violations({"sparsity": 1 - 0.9}, None) == [0.0]
    relative = goals(constraints=["val/accuracy >= dense - 10%"])
    assert 0.8 - 0.1 > 0.7
    assert relative.violations({"val/accuracy": 0.7}, {"val/accuracy": 0.8}) == [0.0]


def test_relative_constraints_wait_for_the_dense_network() -> None:
    wanted = goals(constraints=["sparsity >= 0.8", "val/accuracy >= dense - 1%"])
    assert wanted.needs_dense
    assert not goals(constraints=["sparsity >= 0.8"]).needs_dense
    assert wanted.violations(figures(0.95), None) is None
    assert wanted.violations(figures(0.95), {"val/accuracy": None}) is None
    assert wanted.violations(figures(0.95), {"val/accuracy": 0.98}) == pytest.approx([-0.1, 0.02])


def test_a_share_of_the_dense_figure_is_a_bound() -> None:
    wanted = goals(constraints=["steps_trained <= 2 * dense"])
    assert wanted.violations({"steps_trained": 250}, {"steps_trained": 100}) == [50.0]


def test_a_constraint_whose_metric_was_not_measured_is_violated_beyond_measure() -> None:
    assert goals(constraints=["sparsity >= 0.8"]).violations({"val/accuracy": 1.0}, None) == [math.inf]


def test_a_measurement_carries_the_sparsity_and_the_steps_that_stand_beside_its_metrics() -> None:
    data = {"round": 1, "step": 9, "steps_trained": 27, "sparsity": 0.9, "metrics": {"val/accuracy": 0.5}}
    measured = Record("000001", "measured", 1, 0, 0.0, data)
    assert goals().values(measured.figures) == (0.5, 0.9)
    assert measured.figures["steps_trained"] == 27


# --- the Pareto trials and the best ---------------------------------------------------------------------------------


def test_pareto_keeps_what_nothing_dominates_in_the_order_of_the_trials() -> None:
    trials = [trial("c", figures(0.7, 0.95)), trial("a", figures(0.9, 0.5)), trial("b", figures(0.7, 0.9))]
    assert names(goals().pareto(trials, None)) == ["c", "a"]


def test_a_minimized_objective_is_better_the_smaller_it_is() -> None:
    wanted = goals(["minimize val/loss", "minimize steps_trained"])
    trials = [trial(n, {"val/loss": loss, "steps_trained": s}) for n, loss, s in (("a", 1.0, 9), ("b", 0.5, 9))]
    assert names(wanted.pareto(trials, None)) == ["b"]
    assert wanted.best(trials, None) == (trials[1], True)


def test_what_did_not_complete_or_has_no_figures_or_is_a_control_is_no_candidate() -> None:
    trials = [
        trial("000001", figures(0.9), "stopped"),
        trial("000002", figures(0.9), "failed"),
        trial("000003", figures(None)),
        trial("control-dense", figures(0.99, 0.99)),
        TrialRecords("000004", Record("000004", "proposed", 1, 0, 0.0, {})),
    ]
    assert goals().pareto(trials, None) == []
    assert goals().best(trials, None) == (None, False)


def test_a_repeated_recipe_counts_once_and_under_the_trial_that_was_run() -> None:
    copy = trial("000001", figures(0.9), key="same", duplicate_of="000002")
    run = trial("000002", figures(0.9), key="same")
    assert names(goals().pareto([copy, run], None)) == ["000002"]
    assert names(goals().pareto([copy], None)) == ["000001"]


def test_only_what_meets_the_constraints_is_on_the_front() -> None:
    wanted = goals(constraints=["val/accuracy >= 0.8"])
    trials = [trial("a", figures(0.79, 0.99)), trial("b", figures(0.8, 0.9)), trial("c", figures(0.9, 0.8))]
    assert names(wanted.pareto(trials, None)) == ["b", "c"]
    assert wanted.best(trials, None) == (trials[2], True)


def test_where_none_meets_the_constraints_the_one_that_violates_least_is_best_and_it_is_said_so() -> None:
    wanted = goals(constraints=["val/accuracy >= 0.95", "sparsity >= 0.9"])
    # a lacks .05 + .4, b .35 and c .05 + .02.
    trials = [trial("a", figures(0.9, 0.5)), trial("b", figures(0.6, 0.9)), trial("c", figures(0.9, 0.88))]
    assert wanted.best(trials, None) == (trials[2], False)
    assert names(wanted.pareto(trials, None)) == ["c"]


def test_among_equal_violations_the_front_decides() -> None:
    wanted = goals(constraints=["steps_trained <= 10"])
    trials = [trial(n, figures(a, 0.5, steps_trained=20)) for n, a in (("a", 0.5), ("b", 0.75))]
    assert names(wanted.pareto(trials, None)) == ["b"]
    assert wanted.best(trials, None) == (trials[1], False)


def test_ties_go_to_the_next_objective_and_then_to_the_key() -> None:
    one = goals(["maximize val/accuracy"])
    tied = [trial("a", figures(0.9), key="ff"), trial("b", figures(0.9), key="0a"), trial("c", figures(0.8), key="00")]
    assert one.best(tied, None) == (tied[1], True)
    # Equal in the first objective means that the second decides already on the front.
    trials = [trial("a", figures(0.9, 0.5), key="00"), trial("b", figures(0.9, 0.6), key="ff")]
    assert goals().best(trials, None) == (trials[1], True)


def test_while_the_dense_network_is_not_known_no_trial_is_said_to_meet_the_constraints() -> None:
    wanted = goals(constraints=["val/accuracy >= dense - 1%"])
    trials = [trial("a", figures(0.9))]
    assert wanted.best(trials, None) == (trials[0], False)
    assert wanted.best(trials, {"val/accuracy": 0.9}) == (trials[0], True)


CELLS = [0.0, 0.25, 0.5, 0.75, 1.0]


@settings(deadline=None)
@given(st.lists(st.sampled_from(list(product(CELLS, CELLS))), min_size=1, max_size=12), st.sampled_from(CELLS))
def test_the_best_and_the_front_are_those_of_the_definition(cells: list[tuple[float, float]], bound: float) -> None:
    wanted = goals(constraints=[f"sparsity >= {bound}"])
    trials = [trial(f"{n:06d}", figures(*cell), key=f"{99 - n}") for n, cell in enumerate(cells)]
    lacks = {t.id: max(0.0, bound - t.metrics["sparsity"]) for t in trials}
    least = min(lacks.values())
    allowed = [t for t in trials if lacks[t.id] == least]
    values = {t.id: (t.metrics["val/accuracy"], t.metrics["sparsity"]) for t in trials}
    front = [t for t in allowed if not any(dominates(values[o.id], values[t.id]) for o in allowed)]
    assert wanted.pareto(trials, None) == front
    first = sorted(front, key=lambda t: (-values[t.id][0], -values[t.id][1], t.result["key"]))[0]
    assert wanted.best(trials, None) == (first, least == 0)


def test_ranking_and_schedulers_need_neither_torch_nor_optuna_nor_ray() -> None:
    code = (
        "import sys, prune_search.ledger.ranking, prune_search.search.schedulers\n"
        "print(sorted({'torch', 'optuna', 'ray', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
