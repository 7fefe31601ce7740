"""A recipe travels: applied to another network and data set, and refused by name where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Typed

import prune_search

GOLDEN = Path(__file__).parents[1] / "golden" / "schema_1"
MINE = """\
import torch


def net(shape, classes):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(20, 16), torch.nn.ReLU(), torch.nn.Linear(16, classes)
    )


def data():
    x = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    return {"train": (x[:320], y[:320]), "test": (x[320:], y[320:])}
"""
SHORT = ("--set", "train.steps=2ep", "--set", "train.batch=32")
HERE = ("--model", "travelling_code:net", "--data", "travelling_code:data")


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "travelling_code.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_recipe_applies_to_another_network_and_data_set(typed: Typed, tmp_path: Path) -> None:
    # As it was exported: for digits and an mlp, found on them, in the canonical form.
    said = typed("run", "snip", *SHORT, "--set", "mask.sparsity=0.75", "--out", "first", "--json")
    assert said.code == 0, said.err
    recipe = str(tmp_path / "first" / "recipe.yaml")
    here = json.loads(typed("run", recipe, *HERE, *SHORT, "--out", "second", "--json").out)
    assert {layer["name"]: layer["total"] for layer in here["layers"]} == {"1.weight": 320, "3.weight": 64}
    assert sum(layer["kept"] for layer in here["layers"]) == 96
    assert here["key"] != json.loads(said.out)["key"]
    # And back: registered names in place of code.
    back = json.loads(typed("run", "second", "--model", "mlp", "--data", "digits", *SHORT, "--json").out)
    assert back["mask_sha256"] == json.loads(said.out)["mask_sha256"]
    loaded = prune_search.load("first")
    assert loaded.compact is None
    assert loaded.network() is loaded.model


def test_what_does_not_fit_is_refused_by_name_before_anything_is_trained(typed: Typed, tmp_path: Path) -> None:
    layers = "{name: explicit, exclude: [first, conv7], layers: {fc1: 0.5, '3': 0.9, conv9: 0.9}}"
    (tmp_path / "theirs.yaml").write_text(
        f"mask: {{at: end, criterion: magnitude, sparsity: {{by: scope}}, scope: {layers}}}\nweights: {{at: end}}\n"
        "retrain: none\n"
    )
    said = typed("run", "theirs.yaml", *HERE)
    assert (said.code, said.out) == (2, "")
    lines = said.err.splitlines()
    assert [line.split(": ")[2] for line in lines] == ["mask.scope.exclude", "mask.scope.layers", "mask.scope.layers"]
    for line, name in zip(lines, ("conv7", "conv9", "fc1"), strict=True):
        assert f"{name!r} is not one of" in line
    assert not (tmp_path / "vertices").exists()


def test_code_that_a_recipe_names_runs_only_where_it_is_named_again(typed: Typed, tmp_path: Path) -> None:
    said = typed("run", "snip", *HERE, *SHORT, "--out", "mine")
    assert said.code == 0, said.err
    refused = typed("run", "mine/recipe.yaml")
    assert refused.code == 2
    assert "also pass --data travelling_code:data" in refused.err


@pytest.mark.parametrize("name", ["lottery-ticket", "filters"])
def test_a_recipe_of_an_older_schema_runs(name: str, typed: Typed, tmp_path: Path) -> None:
    """As long as there is one schema, that is the first; the files are never changed."""
    canonical = json.loads((GOLDEN / "canonical.json").read_text("utf-8"))[name]["canonical"]
    assert canonical["schema"] == 1
    from prune_search.recipe import strict_yaml

    (tmp_path / "old.yaml").write_text(strict_yaml.dump({**canonical, "rounds": 1}))
    short = [*SHORT, "--set", "train.schedule=constant"]
    block = {"steps": "5it", "clock": {"hold": "final"}} if isinstance(canonical["retrain"], dict) else "none"
    short += ["--set", f"retrain={json.dumps(block)}", "--set", "weights={at: end}", "--set", "mask.at=end"]
    said = typed("run", "old.yaml", "--model", "small-conv", "--data", "digits", *short, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["metrics"]["test/accuracy"] > 0
