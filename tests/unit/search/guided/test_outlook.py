"""What a search believes: a course that rises beside chance, and effects of holes that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guided_trials import space_of, told
from made_search import make_definition

from prune_search.ledger.records import SearchRecords, TrialRecords
from prune_search.recipe.space import Space, known_epoch
from prune_search.search.guided.outlook import Outlook
from prune_search.search.proposer import Proposer

BLOCKS: dict[str, Any] = {
    "preset": "magnitude-after-training",
    "train": {"steps": "10ep"},
    "mask": {"sparsity": {"hole": "choice", "of": [0.5, 0.9, 0.98]}},
    "retrain": {"steps": {"hole": "uniform", "low": "1ep", "high": "5ep"}},
}


def searched(storage: Path, count: int, **search: Any) -> tuple[Space, SearchRecords]:
    """Recipes that are the better the fewer weights go; how long they are retrained does not matter."""
    space = space_of(BLOCKS, ["maximize val/accuracy"], seed=4, **search)
    folder = make_definition(storage, "told")
    definition = {"space": space.canonical()}
    # From the worst on.
    chance = Proposer(space_of(BLOCKS, ["maximize val/accuracy"], "random", seed=4), known_epoch)
    drawn = [one for number in range(1, count + 1) if (one := chance.propose(number, [], None)) is not None]
    drawn.sort(key=lambda one: -float(one.params["mask.sparsity"]))
    trials: list[TrialRecords] = []
    for place, one in enumerate(drawn):
        sparsity = float(one.params["mask.sparsity"])
        trial = told(one, {"val/accuracy": 0.95 - 0.3 * sparsity**4, "sparsity": sparsity})
        assert trial.ended is not None
        object.__setattr__(trial.ended, "time", float(place))
        trial.ended.data["steps_trained"] = 100  # type: ignore[index]
        trials.append(trial)
    return space, SearchRecords("told", folder, definition, {trial.id: trial for trial in trials})


def test_the_course_rises_over_paid_steps_and_stands_beside_chance(tmp_path: Path) -> None:
    space, search = searched(tmp_path, 9)
    found = Outlook(space, known_epoch).tell(search, effects=False)
    assert found is not None
    assert (found["metric"], found["direction"], found["effects"]) == ("val/accuracy", "maximize", [])
    course = found["course"]
    assert [one["steps"] for one in course] == [100 * place for place in range(1, 10)]
    values = [one["value"] for one in course]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.1
    for one in course:
        assert one["low"] < one["value"] < one["high"]
    chance = [one["chance"] for one in course]
    assert chance == sorted(chance)
    # Chance draws the best of three options soon, and the search above met it last.
    assert chance[0] < values[-1] + 0.01
    assert Outlook(space, known_epoch).tell(search, effects=False) == found


def test_holes_that_matter_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    space, search = searched(tmp_path, 12)
    found = Outlook(space, known_epoch).tell(search)
    assert found is not None
    first, second = found["effects"]
    assert (first["hole"], second["hole"]) == ("mask.sparsity", "retrain.steps")
    assert [point["x"] for point in first["points"]] == [0.5, 0.9, 0.98]
    values = [point["value"] for point in first["points"]]
    assert values == sorted(values, reverse=True)
    assert first["range"] > 5 * second["range"]
    assert len(second["points"]) == 5


@pytest.mark.parametrize(
    ("bound", "reached"), [("val/accuracy >= 80%", True), ("val/accuracy >= 99.9%", False), ("sparsity >= 95%", True)]
)
def test_chance_counts_only_recipes_that_are_expected_to_meet_the_constraints(
    tmp_path: Path, bound: str, reached: bool
) -> None:
    space, search = searched(tmp_path, 6, constraints=[bound])
    found = Outlook(space, known_epoch).tell(search, effects=False)
    assert found is not None
    chance = found["course"][-1]["chance"]
    assert (chance is not None) is reached
    if bound.startswith("sparsity"):
        assert chance < 0.75


def test_nothing_is_told_where_nothing_is_known(tmp_path: Path) -> None:
    space, search = searched(tmp_path, 1)
    assert Outlook(space_of(BLOCKS, ["minimize steps_trained"]), known_epoch).tell(search) is None
    search.trials.clear()
    assert Outlook(space, known_epoch).tell(SearchRecords("told", search.folder, search.definition, {})) is None
