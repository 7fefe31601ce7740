"""The counts of the house count what they say, and its picture is the one that the source draws."""

from __future__ import annotations

from pathlib import Path

import house
import pytest
import untested
import way

PROJECT = """\
[tool]
[[tool.importlinter.contracts]]
type = "layers"
layers = ["cli", "search | report", "recipe"]
"""
FILES = {
    "__init__": "",
    "cli/__init__": "",
    "cli/main": "from prune_search.search import run\n",
    "search/__init__": "",
    "search/run": "def f(recipe):\n    import prune_search.search.worker\n    recipe.mask['at'], mask['other']\n",
    "search/worker": "from prune_search.search import run\nisinstance(a, (int, ObjectPath))\nb.facts['n'], facts[n]\n",
    "report/__init__": "",
    "report/page": "if TYPE_CHECKING:\n    from prune_search.search.run import f\nblocks['mask']['sparsity']\n",
    "pruning/__init__": "",
    "pruning/presets/__init__": "",
    "pruning/presets/fixed": "blocks['train'] = {}\n",
    "recipe/__init__": "",
    "recipe/recipe": "def read(raw: dict[str, Any], n: int) -> Any:\n    return raw['mask'], mask['at']\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    for name, text in FILES.items():
        path = tmp_path / "prune_search" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_what_is_counted(tree: Path) -> None:
    sources = house.read(tree)
    found = {count.__name__: sum(map(count, sources.values())) for count in house.COUNTS.values()}
    # recipe.mask["at"], blocks["mask"] and ["sparsity"] of it; what stands in recipe/ does not count.
    assert found == {
        "fact_lookups": 1,
        "block_lookups": 3,
        "written_keys": 1,
        "path_checks": 1,
        "untyped_signatures": 2,
    }


def test_circles_are_found_through_functions_and_climbs_through_types(tree: Path) -> None:
    edges = house.imports(house.read(tree))
    assert house.circles(edges) == [["prune_search.search.run", "prune_search.search.worker"]]
    climbs = house.climbing(edges, house.layers(tree))
    assert [(edge.source, edge.target, edge.typing_only) for edge in climbs] == [
        ("prune_search.report.page", "prune_search.search.run", True)
    ]


def test_an_arrow_is_drawn_where_no_other_leads(tree: Path) -> None:
    (tree / "prune_search/cli/more.py").write_text("import prune_search.recipe.recipe\n")
    (tree / "prune_search/search/more.py").write_text("import prune_search.recipe.recipe\n")
    drawn = house.picture(tree)
    assert "  cli --> search\n" in drawn
    assert "  search --> recipe\n" in drawn
    assert "cli --> recipe" not in drawn
    assert "| cli | search, recipe |" in drawn


@pytest.mark.slow
def test_the_picture_of_the_guide_is_drawn_from_the_imports_as_they_are() -> None:
    page = (house.ROOT / house.PAGE).read_text(encoding="utf-8")
    assert house.with_picture(page, house.picture(house.ROOT)) == page, "run: python tests/house.py"


@pytest.mark.slow
def test_no_import_climbs_and_none_goes_in_a_circle() -> None:
    edges = house.imports(house.read(house.ROOT))
    assert house.climbing(edges, house.layers(house.ROOT)) == []
    assert house.circles(edge for edge in edges if not edge.typing_only) == []


def test_every_module_with_behaviour_of_its_own_has_a_mirror_of_its_name() -> None:
    left = untested.untested(house.ROOT)
    assert left == [], f"write {', '.join(map(untested.mirror_of, left))}, or give a reason in tests/untested.py"
    assert untested.stale(house.ROOT) == []


def test_a_module_goes_without_only_for_a_reason(tmp_path: Path) -> None:
    package = tmp_path / "prune_search"
    for name, text in {
        "recipe/step": "",
        "recipe/__init__": "",
        "version": "",
        "pruning/mask/criteria/plain": "@CRITERIA.register('all')\n",
        "pruning/mask/criteria/helper": "",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text(text)
    assert untested.untested(tmp_path) == ["pruning/mask/criteria/helper.py", "recipe/step.py"]
    file = tmp_path / untested.mirror_of("recipe/step.py")
    file.parent.mkdir(parents=True)
    file.touch()
    assert untested.untested(tmp_path) == ["pruning/mask/criteria/helper.py"]
    # A reason for a module that has a test by now, or is gone, is none.
    (tmp_path / "tests/unit/test_version.py").touch()
    assert {"version.py", "compact/file_names.py", untested.EVERY_ENTRY} <= set(untested.stale(tmp_path))


@pytest.mark.slow
def test_one_recipe_enters_at_most_fifteen_files_on_its_way_to_the_trained_trial() -> None:
    found = way.files_entered()
    # Its ends are among them, so that the whole way was gone.
    assert {"recipe/recipe.py", "search/next_trial.py", "trial/setup.py"} <= set(found)
    assert len(found) <= 15, "\n".join(way.told())
