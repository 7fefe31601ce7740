"""Fractions proposed by Optuna's TPE, and uniform ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from prune_search.pruning.mask.fraction_search import Episodes, FractionProblem
from prune_search.pruning.mask.units import LayerUnits
from prune_search.search.scopes import RandomFractions, StudiedFractions

SIZES = (80, 20)


def problem(seed: int = 0, budget: float = 30.0) -> FractionProblem:
    layers = [LayerUnits(f"l{place}", (size, 1), size, size) for place, size in enumerate(SIZES)]

    def spent(kept: Mapping[str, int]) -> float:
        return float(sum(kept.values()))

    features = torch.zeros(2, 9, dtype=torch.float64)
    return FractionProblem(layers, features, budget, spent, 100.0, 60, 0.95, seed=seed, words=("test",))


def run(searcher: RandomFractions | StudiedFractions, until: int, episodes: Episodes | None = None) -> Episodes:
    found = Episodes(len(SIZES)) if episodes is None else episodes
    while len(found) < until:
        actions = searcher.propose(found)
        fractions = searcher.problem.clipped(actions, len(found))
        kept = searcher.problem.counts(fractions.tolist())
        found.add(actions, kept, searcher.problem.cost(kept), -float(fractions.sum()))
        searcher.told(found)
    return found


def test_uniform_fractions_fill_the_range_of_their_episode() -> None:
    given = problem()
    found = run(RandomFractions(given), 60).actions
    caps = torch.tensor([given.cap(episode) for episode in range(60)], dtype=torch.float64)[:, None]
    assert bool((found >= 0).all())
    assert bool((found <= caps).all())
    assert 0.35 < float((found / caps).mean()) < 0.65
    assert torch.equal(found, run(RandomFractions(given), 60).actions)
    assert not torch.equal(found, run(RandomFractions(problem(seed=1)), 60).actions)


def test_tpe_learns_where_the_budget_lies_and_uniform_draws_do_not() -> None:
    for seed in range(3):
        given = problem(seed)
        studied, blind = run(StudiedFractions(given, 10), 60), run(RandomFractions(given), 60)
        met = [int((found.costs[10:] <= 30.0).sum()) for found in (studied, blind)]
        assert met[0] > 2 * met[1]


def test_a_study_that_was_interrupted_proposes_what_it_would_have() -> None:
    whole = run(StudiedFractions(problem(), 5), 16)
    begun = run(StudiedFractions(problem(), 5), 9)
    assert torch.equal(run(StudiedFractions(problem(), 5), 16, Episodes.of(begun.state())).actions, whole.actions)
