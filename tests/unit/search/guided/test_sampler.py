"""The sampler draws what was chosen, and the same random value where nothing was."""

from __future__ import annotations

import optuna

from prune_search.search.guided.sampler import GuidedSampler
from prune_search.search.proposer import no_news


def drawn(sampler: GuidedSampler) -> tuple[float, str]:
    with no_news():
        trial = optuna.create_study(sampler=sampler).ask()
    return trial.suggest_float("share", 0.0, 1.0), trial.suggest_categorical("paradigm", ["0", "1", "2"])


def test_the_chosen_point_is_drawn() -> None:
    sampler = GuidedSampler(0, True, {"share": 0.25, "paradigm": "2"})
    assert drawn(sampler) == (0.25, "2")


def test_a_hole_that_nothing_was_chosen_for_is_drawn_by_the_seed() -> None:
    one, again, other = (drawn(GuidedSampler(seed, True, {"paradigm": "1"})) for seed in (7, 7, 8))
    assert one == again
    assert one[1] == other[1] == "1"
    assert one[0] != other[0]
