"""What people carry away: the card, and reading an exported folder again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import prune_search
from prune_search import Where
from prune_search.exports.folder import CardOf, Exported, card, export_folder, load, reproducing_command
from prune_search.exports.model_code import loading_code, plain_torch
from prune_search.recipe.axes import DATASETS, MODELS
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.trial.result import Result

SHORT = {"train.steps": "1ep", "train.batch": 200}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A short run of snip, exported."""
    root = tmp_path_factory.mktemp("export")
    folder = root / "best"
    where = Where(storage=root / "store")
    result = prune_search.run("snip", set={**SHORT, "mask.sparsity": 0.9}, where=where, out=folder)
    dense = {"val/accuracy": 0.9876, "val/loss": 0.05, "sparsity": 0.0}
    repeats = {1: {**result.metrics, "test/accuracy": result.metrics["test/accuracy"] + 0.02}}
    export_folder(result, folder, CardOf("monday", "001-snip-s0.90", dense, repeats))
    return result, folder


def code_block(text: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)\n```", text, re.DOTALL)
    assert found is not None
    return found[1]


def table_rows(text: str) -> dict[str, list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return {row[0]: row[1:] for row in rows}


def test_the_card_tells_what_it_is_and_where_it_comes_from(exported: tuple[Result, Path]) -> None:
    result, folder = exported
    text = (folder / "README.md").read_text()
    _, block, rest = text.split("---\n", 2)
    assert rest.lstrip().startswith("# snip: mlp on digits, sparsity 0.9000\n")
    hub = yaml.safe_load(block)
    assert hub["library_name"] == "prune_search"
    assert hub["tags"] == ["pruning", "sparse", "snip"]
    ((entry,),) = [model["results"] for model in hub["model-index"]]
    assert entry["dataset"]["name"] == "digits"
    tested = {figure["type"]: figure["value"] for figure in entry["metrics"]}
    assert tested == {"accuracy": pytest.approx(result.metrics["test/accuracy"], abs=1e-6)}
    assert "Lee, Ajanthan & Torr 2019, SNIP, 1810.02340" in text
    assert "search `monday`, trial `001-snip-s0.90`" in text
    assert result.key in text
    assert result.masks.sha256 in text


def test_the_card_has_test_figures_beside_the_dense_network_and_the_seeds(exported: tuple[Result, Path]) -> None:
    result, folder = exported
    rows = table_rows((folder / "README.md").read_text())
    assert len(rows["metric"]) == 3
    tested = result.metrics["test/accuracy"]
    assert rows["test/accuracy"] == [f"{tested:.2%}"[:-1] + " %", f"{tested + 0.01:.2%}"[:-1] + " % ± 1.41 %", "–"]
    assert rows["val/accuracy"][2] == "98.76 %"


def test_the_card_lists_every_layer(exported: tuple[Result, Path]) -> None:
    result, folder = exported
    rows = table_rows((folder / "README.md").read_text())
    for layer in result.receipt.layers:
        assert rows[f"`{layer.name}`"][:2] == [f"{layer.total:,}", f"{layer.kept:,}"]


def test_what_the_card_says_about_loading_works_and_needs_torch_only(
    exported: tuple[Result, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = exported
    code = code_block((folder / "README.md").read_text(), "python")
    assert "prune_search" not in code
    monkeypatch.chdir(folder)
    space: dict[str, Any] = {}
    exec(code, space)
    model, masks = space["model"], space["masks"]
    assert sorted(masks) == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert all(not model.get_parameter(name)[~mask].any() for name, mask in masks.items())
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.slow
def test_the_command_on_the_card_reproduces_it(exported: tuple[Result, Path]) -> None:
    _, folder = exported
    words = code_block((folder / "README.md").read_text(), "sh").split()
    assert words[0] == "prune-search"
    command = [sys.executable, "-m", "prune_search", *words[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified: exact" in done.stdout


def test_repeats_are_kept_as_data_too(exported: tuple[Result, Path]) -> None:
    result, folder = exported
    data = json.loads((folder / "seeds.json").read_text())
    assert [run["seed"] for run in data["seeds"]] == [0, 1]
    assert data["mean"]["test/accuracy"] == pytest.approx(result.metrics["test/accuracy"] + 0.01)


def test_an_exported_folder_is_read_again(exported: tuple[Result, Path]) -> None:
    result, folder = exported
    found = load(folder)
    assert isinstance(found, Exported)
    assert found.recipe == result.recipe.canonical
    assert found.metrics["key"] == result.key
    assert all(torch.equal(found.masks[name], mask) for name, mask in result.masks.items())
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in result.tensors.items())
    assert all(not found.weights[name][~mask].any() for name, mask in found.masks.items())


@pytest.mark.parametrize("name", ["recipe.yaml", "model.safetensors", "masks.safetensors", "metrics.json"])
@pytest.mark.parametrize("harm", ["missing", "cut", "a link"])
def test_a_folder_that_lacks_something_or_was_altered_is_refused(
    name: str, harm: str, exported: tuple[Result, Path], tmp_path: Path
) -> None:
    _, folder = exported
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    target = tmp_path / name
    content = target.read_bytes()
    target.unlink()
    if harm == "cut":
        target.write_bytes(content[: len(content) // 2])
    elif harm == "a link":
        target.symlink_to(folder / name)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert name in str(caught.value)


def test_without_a_search_the_card_speaks_of_none(exported: tuple[Result, Path]) -> None:
    result, _ = exported
    text = card(result)
    assert "search `" not in text
    assert len(table_rows(text)["metric"]) == 1


def recipe_of(raw: dict[str, Any]) -> Any:
    return read_space(raw, "a test").only_recipe()


def test_the_command_names_what_must_be_typed_besides_the_folder() -> None:
    fashion = recipe_of({"preset": "snip", "task": {"data": "fashion-mnist"}})
    assert reproducing_command(fashion) == "prune-search run . --verify --data-root FOLDER_OF_THE_DATA_SETS"
    own = recipe_of({"preset": "snip", "task": {"data": "my.module:data", "model": "my.module:net"}})
    named = "--model my.module:net --data my.module:data"
    assert reproducing_command(own) == f"PYTHONPATH=FOLDER_OF_YOUR_CODE prune-search run . --verify {named}"
    assert "from my.module import net" in loading_code(own)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_code_for_every_model_builds_it(name: str) -> None:
    data = "cifar-10" if name.startswith(("resnet", "vgg")) else "digits"
    facts = DATASETS[data].facts
    code = loading_code(recipe_of({"preset": "snip", "task": {"data": data, "model": name}}))
    build = code.split("model.load_state_dict")[0]
    space: dict[str, Any] = {}
    exec(build, space)
    model = MODELS[name].make(facts.shape, facts.classes, **options_of(name))
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    assert {key: tensor.shape for key, tensor in space["model"].state_dict().items()} == shapes
    if "prune_search" not in build:
        inputs = torch.randn(2, *facts.shape, generator=torch.Generator().manual_seed(0))
        space["model"].load_state_dict(model.state_dict())
        assert torch.equal(space["model"].eval()(inputs), model.eval()(inputs))


def options_of(name: str) -> dict[str, Any]:
    written = recipe_of({"preset": "snip", "task": {"model": name}}).blocks["task"]["model"]
    return {} if isinstance(written, str) else {key: value for key, value in written.items() if key != "name"}


def test_a_network_with_layers_of_its_own_has_no_plain_code() -> None:
    class Own(torch.nn.Module):
        """A layer of somebody's."""

    assert plain_torch(torch.nn.Sequential(torch.nn.Linear(2, 2), Own())) is None
    assert plain_torch(Own()) is None
