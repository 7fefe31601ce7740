"""Recommendations: the best expected recipe, the luckiest measurement beside it, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy
from guided_trials import space_of, told

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import TrialRecords
from prune_search.recipe.space import known_epoch
from prune_search.search.guided.recommend import expected_figures, recommended
from prune_search.search.proposer import Proposer
from prune_search.search.suggest import PinnedDraw

SPACE: dict[str, Any] = {
    "preset": "snip",
    "train": {"steps": "10ep"},
    "mask": {"sparsity": {"hole": "uniform", "low": 0.5, "high": 0.95}},
}


def trials(figures: Mapping[float, Mapping[str, Any] | None], goals: list[str]) -> tuple[list[TrialRecords], Goals]:
    """A trial at each sparsity, with these figures; None: it is still running."""
    space = space_of(SPACE, goals)
    proposal = Proposer(space, known_epoch).propose(1, [], None)
    assert proposal is not None
    found = []
    for number, (sparsity, measured) in enumerate(figures.items(), 1):
        drawn = space.fill(PinnedDraw({"mask.sparsity": sparsity}))
        sampler = {**proposal.sampler, "params": {"mask.sparsity": sparsity}}
        one = replace(proposal, number=number, recipe=drawn.recipe(), params=drawn.params, sampler=sampler)
        found.append(told(one, measured))
    return found, Goals.of(space.search)


def test_a_lucky_measurement_is_not_recommended() -> None:
    # About 0.94 up to 0.75, worse beyond, with a noise of half a point; the one at 0.8 had most luck.
    accuracies = (0.936, 0.945, 0.938, 0.943, 0.941, 0.944, 0.9465, 0.925, 0.918, 0.905)
    sparsities = numpy.linspace(0.5, 0.95, 10).round(3).tolist()
    figures = {s: {"val/accuracy": found, "sparsity": s} for s, found in zip(sparsities, accuracies, strict=True)}
    known, goals = trials(figures, ["maximize val/accuracy"])
    measured, _ = goals.best(known, None)
    found, met = recommended(known, goals, None)
    assert measured is not None
    assert found is not None
    assert measured.metrics["sparsity"] == 0.8
    assert found.metrics["sparsity"] < 0.8
    assert met
    lucky = expected_figures(known, goals)[measured.id]["val/accuracy"]
    assert lucky.low < lucky.value < 0.944


def test_what_has_not_completed_is_not_recommended() -> None:
    known, goals = trials({0.6: {"val/accuracy": 0.9}, 0.8: None}, ["maximize val/accuracy"])
    found, _ = recommended(known, goals, None)
    assert found is known[0]
    assert list(expected_figures(known, goals)) == [known[0].id]
    assert recommended(known[1:], goals, None) == (None, False)


def test_only_what_is_measured_on_validation_data_is_expected_otherwise() -> None:
    figures = {s: {"val/accuracy": 1 - s / 4, "sparsity": s} for s in (0.5, 0.7, 0.9)}
    known, goals = trials(figures, ["maximize val/accuracy", "maximize sparsity"])
    assert all(list(found) == ["val/accuracy"] for found in expected_figures(known, goals).values())
    found, _ = recommended(known, goals, None)
    assert found is known[0]
