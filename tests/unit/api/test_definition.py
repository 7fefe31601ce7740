"""search.json: the names of searches, the space that is read back, and what was edited since."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.api.definition import default_name, define, edited, free_name, new_folder, space_of
from prune_search.api.where import Where
from prune_search.ledger.records import ENDED_FILE, SEARCH_FILE, search_folder
from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.recipe.space_samples import AtRandom

TEXT = """\
any:
- {preset: snip, mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}}
- {preset: random}
search: {trials: 4}
"""


def launched(storage: Path) -> tuple[Path, dict[str, Any]]:
    """A space file, and what search.json says of a search of it, through JSON."""
    file = storage / "mine.yaml"
    file.write_text(TEXT)
    space = read_space(strict_yaml.load(TEXT), str(file))
    definition = define(space, search_folder(storage, "mine"), Where(), None, {})
    return file, json.loads(json.dumps(definition, sort_keys=True))


def test_the_experiment_of_a_task_that_is_given_itself_has_its_name(tmp_path: Path) -> None:
    from prune_search.tasks.task import Task

    space = read_space(strict_yaml.load(TEXT), "mine")
    net = torch.nn.Linear(2, 2)
    data = (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
    for name, experiment in (("weather", "weather"), ("", "task")):
        where = Where(task=Task(model=lambda: net, train=data, validation=0.5, name=name))
        whole = read_space(strict_yaml.load(TEXT), "mine", [*where.values({}).items()])
        assert define(whole, search_folder(tmp_path, "mine"), where, None, {})["experiment"] == experiment
    assert define(space, search_folder(tmp_path, "mine"), Where(), None, {})["experiment"] == "digits-mlp"


def begin(storage: Path, name: str, finished: bool) -> None:
    folder = search_folder(storage, name)
    folder.mkdir(parents=True)
    (folder / SEARCH_FILE).write_text("{}")
    if finished:
        (folder / ENDED_FILE).write_text("{}")


def test_a_definition_gives_the_same_space_again(tmp_path: Path) -> None:
    file, definition = launched(tmp_path)
    again = space_of(definition)
    assert again.digest() == definition["space_sha256"]
    assert again.canonical() == definition["space"]
    assert (definition["name"], definition["source"], definition["text"]) == ("mine", str(file), TEXT)
    assert definition["code"] == {"model": None, "data": None}


def test_every_edit_of_the_file_is_named_with_its_place(tmp_path: Path) -> None:
    file, definition = launched(tmp_path)
    assert edited(definition) == []
    file.write_text(TEXT.replace("preset: random}", "preset: magnitude}").replace("trials: 4", "seed: 1"))
    assert edited(definition) == [
        "any[1].preset: 'random' became 'magnitude'",
        "search.trials: 4 was removed",
        "search.seed: 1 was added",
    ]
    file.unlink()
    assert edited(definition) == [], "a file that is gone was not edited"


def test_a_search_is_called_after_its_file() -> None:
    assert default_name("spaces/my space.v2.yaml") == "my-space.v2"
    assert default_name(".yaml") == "yaml"
    assert default_name("...") == "search"


def test_a_name_that_was_not_typed_gets_a_number_once_its_search_is_over(tmp_path: Path) -> None:
    assert new_folder(tmp_path, "mine", typed=True) == search_folder(tmp_path, "mine")
    begin(tmp_path, "mine", finished=True)
    begin(tmp_path, "mine-2", finished=True)
    assert free_name(tmp_path, "mine") == "mine-3"
    assert new_folder(tmp_path, "mine", typed=False) == search_folder(tmp_path, "mine-3")
    with pytest.raises(UserError, match=r"already exists.*prune-search resume mine"):
        new_folder(tmp_path, "mine", typed=True)


def test_an_unfinished_search_is_never_passed_over(tmp_path: Path) -> None:
    begin(tmp_path, "mine", finished=False)
    with pytest.raises(UserError, match="prune-search resume mine --storage"):
        new_folder(tmp_path, "mine", typed=False)


def test_every_file_name_gives_a_name_that_a_search_can_have(tmp_path: Path) -> None:
    said = {
        "Größe.yaml": "Grosse",
        "année 2026.yaml": "annee-2026",
        "数据.yaml": "search",
        "...yaml": "search",
        "Ⅳ½.yml": "IV1-2",
        "a" * 300 + ".yaml": "a" * 120,
        ".hidden.yaml": "hidden",
    }
    assert {file: default_name(file) for file in said} == said
    rng = random.Random(3)
    for _ in range(500):
        stem = "".join(
            chr(rng.choice((rng.randint(33, 126), rng.randint(161, 0x2FFF), rng.randint(0x1F300, 0x1F6FF))))
            for _ in range(rng.randint(1, 200))
        )
        name = default_name(f"/folder/{stem.replace('/', '_')}.yaml")
        # With a number behind it, too.
        assert search_folder(tmp_path, f"{name}-1000000").parent == tmp_path / "searches"


def test_the_database_of_the_storage_is_written_down_relative_to_it(tmp_path: Path) -> None:
    _, definition = launched(tmp_path)
    assert definition["tracking_uri"] == "sqlite:///mlflow.db"
    space = read_space(strict_yaml.load(TEXT), "told")
    folder = search_folder(tmp_path, "other")
    for typed, kept in ((f"sqlite:///{tmp_path}/runs.db", "sqlite:///runs.db"), ("http://host:1/", "http://host:1")):
        assert define(space, folder, Where(), typed, {})["tracking_uri"] == kept


OLD = """
task: {data: digits}
preset: gradual-magnitude
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}
retrain:
  until: end
  dynamics:
    name: gradual
    path: {hole: choice, of: [linear, cubic]}
    criterion: {hole: choice, of: [magnitude, taylor]}
    every: {hole: int, low: 2it, high: 9it}
train: {steps: {hole: int, low: 20it, high: 40it}}
"""


def test_a_search_of_version_0_1_keeps_its_order_values_and_defaults_where_presets_have_others(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(OLD)
    now = read_space(strict_yaml.load(OLD), str(file))
    stored = now.canonical()
    stored["options"][0]["mask"]["scope"] = "global"  # what the preset said then
    definition = {
        "space": json.loads(json.dumps(stored, sort_keys=True)),
        "space_sha256": "of other values",
        "text": OLD,
        "source": str(file),
        "set": {},
    }
    began = space_of(definition)
    drawn = began.fill(AtRandom(random.Random(3)))
    # In the order of the file, after what an epoch depends on.
    assert list(drawn.params) == [
        "train.steps",
        "mask.sparsity",
        "retrain.dynamics.path",
        "retrain.dynamics.criterion",
        "retrain.dynamics.every",
    ]
    assert drawn.raw["mask"]["scope"] == "global"
    groups = set()
    for seed in range(20):
        recipe = began.fill(AtRandom(random.Random(seed))).recipe()
        criterion = recipe.blocks["retrain"]["dynamics"]["criterion"]
        groups.add("magnitude" if criterion == "magnitude" else criterion["group"])
    assert groups == {"magnitude", "abs-sum"}
    later = space_of({**definition, "hole_order": "by name"}).fill(AtRandom(random.Random(3)))
    assert list(later.params) != list(drawn.params)
