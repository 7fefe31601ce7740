"""The search spaces that come with the package: each is valid, says how it is run, and draws recipes that run."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe import strict_yaml
from prune_search.recipe.axes import CRITERIA
from prune_search.recipe.clock import resolve
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.shipped import shipped_names, shipped_space
from prune_search.recipe.space import Space, inspect, known_epoch
from prune_search.recipe.space_samples import AtRandom

ROOT = Path(__file__).parents[3]
NAMES = [path.stem for path in sorted((ROOT / "search_spaces").glob("*.yaml"))]
DRAWS = 20


def read(name: str, *sets: tuple[str, Any]) -> Space:
    """A shipped space; nothing may be wrong with it anywhere."""
    space, problems = inspect(strict_yaml.load_file(ROOT / "search_spaces" / f"{name}.yaml"), name, sets)
    assert problems == []
    assert space is not None
    return space


def draws(space: Space, count: int) -> list[Recipe]:
    rng = random.Random(1)
    return [space.fill(AtRandom(rng)).recipe() for _ in range(count)]


def test_the_spaces_that_the_issue_asks_for_are_there() -> None:
    asked = {"quickstart", "lottery_ticket", "growing_penalty", "at_initialization", "sparsity_schedules"}
    assert asked | {"paradigm_plane", "all_criteria"} <= set(NAMES)
    assert shipped_names() == tuple(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_begins_with_its_command_line_and_a_question(name: str) -> None:
    lines = (ROOT / "search_spaces" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# prune-search launch search_spaces/{name}.yaml")
    head = lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]
    assert any("?" in line for line in head)


@pytest.mark.parametrize("name", NAMES)
def test_every_draw_is_a_recipe_whose_places_lie_on_its_clock(name: str) -> None:
    space = read(name)
    assert space.has_holes
    recipes = draws(space, DRAWS)
    for recipe in recipes:
        epoch = known_epoch(recipe)
        assert epoch is not None
        timeline = resolve(recipe, epoch)
        assert timeline.retrain_steps > 0 or recipe.retrain is None
    assert len({str(recipe.canonical) for recipe in recipes}) > DRAWS // 2


@pytest.mark.parametrize("name", NAMES)
def test_a_space_is_found_by_its_name_and_by_its_path(name: str) -> None:
    path = shipped_space(name)
    assert path is not None
    assert path.read_bytes() == (ROOT / "search_spaces" / f"{name}.yaml").read_bytes()
    assert shipped_space(f"search_spaces/{name}.yaml") == path


@pytest.mark.parametrize(
    "name", ["", "nothing", "../pyproject", "/etc/passwd", "search_spaces", "quickstart.yaml.yaml"]
)
def test_what_is_no_shipped_space_is_not_found(name: str) -> None:
    assert shipped_space(name) is None


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("all_criteria", "all_paradigms", "sanity_checks") else ())
        for name in NAMES
    ],
)
def test_a_dry_run_of_each_counts_what_it_would_train(name: str) -> None:
    from prune_search.api.plan import plan

    made = plan(name, calibrated=False, stored=False).plan
    assert 0 < made.recipes <= made.trials <= read(name).search["trials"]
    assert made.steps_unshared >= made.steps_shared > 0


def test_the_guide_lists_every_space_with_its_question() -> None:
    import prune_search

    page = (Path(prune_search.__file__).parent / "guide" / "searching.md").read_text(encoding="utf-8")
    table = page.split("| shipped space | question |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert sorted(name.strip("`") for name, _ in rows) == NAMES
    assert all(len(question) > 20 for _, question in rows)


def test_the_package_folder_leads_to_the_same_files() -> None:
    import prune_search

    inside = Path(prune_search.__file__).parent / "search_spaces"
    assert sorted(path.stem for path in inside.glob("*.yaml")) == NAMES


def test_quickstart_meets_at_least_five_paradigms_at_equal_sparsities() -> None:
    space = read("quickstart")
    met = {paradigm(recipe) for recipe in draws(space, 200)}
    assert {"random", "snip", "magnitude-after-training", "lottery-ticket", "gradual-magnitude"} <= met
    assert not any(name.startswith("custom") for name in met)
    assert (space.search["trials"], space.search["concurrency"]) == (24, 2)
    assert {recipe.mask.sparsity.final for recipe in draws(space, 200)} == {0.94, 0.96, 0.98}


@pytest.mark.long
@pytest.mark.parametrize("sparsity", [0.94, 0.96, 0.98])
def test_at_quickstarts_length_magnitude_is_above_random_and_paradigms_differ(sparsity: float, tmp_path: Path) -> None:
    from prune_search.api.run import run
    from prune_search.api.where import Where

    space, where = read("quickstart"), Where(storage=tmp_path)
    accuracy: dict[str, list[float]] = {"random": [], "magnitude-after-training": [], "gradual-magnitude": []}
    for recipe in draws(space, 200):
        found = accuracy.get(paradigm(recipe), [])
        if recipe.mask.sparsity.final == sparsity and len(found) < 2:
            found.append(run(recipe.canonical, where=where).metrics["val/accuracy"])
    assert min(accuracy["magnitude-after-training"]) > max(accuracy["random"])
    assert min(accuracy["gradual-magnitude"]) - max(accuracy["random"]) >= 0.05


def test_the_lottery_ticket_asks_for_ninety_percent_and_the_dense_networks_accuracy() -> None:
    space = read("lottery_ticket")
    assert space.search["trials"] >= 16
    assert space.search["constraints"] == ["sparsity >= 90%", "val/accuracy >= dense - 1%"]
    for recipe in draws(space, DRAWS):
        share = recipe.mask.sparsity.per_round
        assert share is not None
        assert 1 - (1 - share) ** recipe.rounds >= 0.9


def test_every_criterion_is_in_the_space_of_all_and_those_that_fit_in_the_one_at_initialization() -> None:
    def met(name: str) -> set[str]:
        written = [recipe.mask.criterion.written for recipe in draws(read(name), 600)]
        return {criterion if isinstance(criterion, str) else criterion["name"] for criterion in written}

    can = {name for name, entry in CRITERIA.items() if not entry.facts.keeps_all and not entry.facts.trains}
    assert met("all_criteria") == can
    # A group's criterion has nothing to tell of single weights.
    assert met("at_initialization") == {name for name in can if CRITERIA[name].facts.granularities is None}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("quickstart", "structured_filters") else pytest.mark.slow)
        for name in NAMES
    ],
)
def test_a_draw_of_each_runs(name: str, tmp_path: Path) -> None:
    from prune_search.api.run import run
    from prune_search.api.where import Where

    space = read(name)
    where = Where(storage=tmp_path, data_root=data_root(space))
    result = run(shortened(draws(space, 1)[0].canonical), where=where)
    assert 0.0 <= result.receipt.reached < 1.0
    if "val/accuracy" in result.metrics:
        assert 0.0 <= result.metrics["val/accuracy"] <= 1.0
    else:
        assert 0.0 < result.metrics["val/psnr"] < 40.0


def test_every_paradigm_of_all_paradigms_takes_the_same_training() -> None:
    """1,200 steps, wherever they are spent; scratch-b's are told by the mask, up to as many."""
    from prune_search.trial.addresses import nominal_branch

    found: dict[str, set[int]] = {}
    for recipe in draws(read("all_paradigms"), 200):
        _, branch = nominal_branch(recipe, 19)
        found.setdefault(paradigm(recipe), set()).add(sum(vertex.needed for vertex in branch.vertices()))
    least = found.pop("scratch-b")
    assert least == {800}
    assert len(found) > 20
    assert set.union(*found.values()) <= {1199, 1200}


def data_root(space: Space) -> Path | None:
    """Where the files of a data set lie that does not come with a package."""
    if draws(space, 1)[0].task.source.embedded:
        return None
    beside = ROOT.parent / "shared" / "data"
    root = Path(os.environ.get("PRUNE_SEARCH_DATA", beside))
    if not root.is_dir():
        pytest.skip("no real data sets: name their folder in PRUNE_SEARCH_DATA")
    return root


def shortened(canonical: dict[str, Any]) -> dict[str, Any]:
    """A drawn recipe at a fraction of its length: large batches, few rounds, every number of steps divided."""
    recipe: dict[str, Any] = scaled(canonical)
    recipe["rounds"] = min(2, recipe["rounds"])
    recipe["train"] |= {"steps": "20it", "batch": min(200, Recipe.read(canonical).task.source.train_examples)}
    return recipe


def scaled(node: Any) -> Any:
    """`node` with places and lengths of a twentieth, at least one iteration."""
    if isinstance(node, dict):
        return {key: scaled(value) for key, value in node.items()}
    if isinstance(node, list):
        return [scaled(value) for value in node]
    if isinstance(node, str) and node.removesuffix("ep").isdecimal() and node.endswith("ep"):
        return f"{max(1, int(node.removesuffix('ep')) // 3)}it"
    if isinstance(node, str) and node.removesuffix("it").isdecimal() and node not in ("0it",):
        return f"{max(1, int(node.removesuffix('it')) // 20)}it"
    return node
