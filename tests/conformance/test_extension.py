"""A new criterion or transform is one function, registered in one place, and is found everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Typed
from torch import Tensor

from prune_search.pruning.mask.scoring import Scoring
from prune_search.pruning.weights.context import TransformContext
from prune_search.recipe.axes import AXES, CRITERIA, TRANSFORMS
from prune_search.recipe.facts import Criterion
from prune_search.recipe.fields import Number
from prune_search.recipe.problems import UserError
from prune_search.recipe.registry import Option
from prune_search.recipe.space import Space, read_space
from prune_search.trial.run import run_trial
from prune_search.trial.setup import TrialSetup

Blocks = dict[str, Any]
NAME = "farthest-from"


class Fixed:
    """Fills holes with the option of a given label."""

    def __init__(self, label: str) -> None:
        self.label = label

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        return labels.index(self.label)

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        raise AssertionError(name)

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        raise AssertionError(name)


@pytest.fixture
def registered() -> Iterator[None]:
    @CRITERIA.register(
        NAME,
        summary="|w - centre|",
        options={"centre": Option(Number(-1.0, 1.0), 0.25, "what the weights are compared with")},
        facts=Criterion(reduce="sum"),
    )
    def farthest_from(scoring: Scoring, *, centre: float) -> dict[str, Tensor]:
        """The distance of each weight from a number."""
        return {name: (weight - centre).abs() for name, weight in scoring.dense.items()}

    @TRANSFORMS.register("halve", summary="half of every weight")
    def halve(setting: TransformContext) -> None:
        """Half of every weight."""
        with torch.no_grad():
            for weight in setting.network.model.parameters():
                weight.mul_(0.5)

    yield
    CRITERIA.withdraw(NAME)
    TRANSFORMS.withdraw("halve")


def recipe(criterion: Any, **more: Any) -> Blocks:
    return {
        "task": {"model": {"name": "mlp", "hidden": [8]}},
        "train": {"steps": "3it"},
        "mask": {"at": "end", "criterion": criterion, "sparsity": 0.6},
        "weights": {"at": "end"},
        "retrain": "none",
        **more,
    }


def space(criterion: Any, **more: Any) -> Space:
    return read_space(recipe(criterion, **more), "a test")


@pytest.mark.usefixtures("registered")
def test_it_is_found_in_the_registry_and_in_recipes() -> None:
    (axis,) = [axis for axis in AXES if NAME in axis]
    assert axis is CRITERIA
    assert axis[NAME].summary == "|w - centre|"
    read = space(NAME).only_recipe()
    assert read.blocks["mask"]["criterion"] == {"name": NAME, "centre": 0.25}
    assert space({"name": NAME, "centre": -1}).only_recipe().mask.criterion.written == {"name": NAME, "centre": -1.0}


@pytest.mark.usefixtures("registered")
def test_it_can_be_searched_over_with_its_options() -> None:
    drawn = space({"hole": "choice", "of": ["magnitude", {"name": NAME, "centre": 0.5}]})
    assert drawn.has_holes
    found = {label: drawn.fill(Fixed(label)).recipe().mask.criterion.written for label in ("magnitude", NAME)}
    assert found == {"magnitude": "magnitude", NAME: {"name": NAME, "centre": 0.5}}


@pytest.mark.usefixtures("registered")
def test_it_is_found_by_the_verbs(typed: Typed, tmp_path: Path) -> None:
    rows = json.loads(typed("methods", "criterion", "--json").out)["methods"]
    (row,) = [row for row in rows if row["name"] == NAME]
    assert row["summary"] == "|w - centre|"
    assert [(option["name"], option["default"]) for option in row["options"]] == [("centre", 0.25)]
    file = tmp_path / "space.yaml"
    hole = "{hole: uniform, low: -1, high: 1}"
    file.write_text(f"preset: fine-tune\nmask: {{criterion: {{name: {NAME}, centre: {hole}}}}}\n")
    said = typed("validate", str(file), "--json")
    assert (said.code, json.loads(said.out)["files"][0]["kind"]) == (0, "space")
    file.write_text(f"preset: fine-tune\nmask: {{criterion: {{name: {NAME}, centre: 3}}}}\n")
    said = typed("validate", str(file))
    assert (said.code, "mask.criterion.centre: must be a number" in said.err) == (2, True)
    sets = ("train.steps=4it", "retrain.steps=1it", f"mask.criterion={NAME}", "mask.criterion.centre=0.1")
    said = typed("run", "fine-tune", "--json", *(word for text in sets for word in ("--set", text)))
    assert (said.code, json.loads(said.out)["sparsity"]["reached"]) == (0, 0.9)


@pytest.mark.usefixtures("registered")
def test_what_is_wrong_with_it_is_said_with_its_key_and_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"mask\.criterion.*did you mean 'farthest-from'"):
        space("farthest-form")
    with pytest.raises(UserError, match=r"mask\.criterion\.centre.*got 3"):
        space({"name": NAME, "centre": 3})
    with pytest.raises(UserError, match=r"mask\.criterion\.center.*did you mean 'centre'"):
        space({"name": NAME, "center": 0.5})


@pytest.mark.usefixtures("registered")
def test_it_decides_the_mask_of_a_trial(setup_of: Callable[[Mapping[str, Any]], TrialSetup]) -> None:
    result = run_trial(setup_of(recipe({"name": NAME, "centre": 0.1})), None)
    dense = run_trial(setup_of(recipe("all", mask={"at": "end", "criterion": "all", "sparsity": 0})), None).tensors
    mask = torch.cat([mask.flatten() for mask in result.masks.values()])
    far = torch.cat([(dense[name] - 0.1).abs().flatten() for name in result.masks])
    assert int(mask.sum()) == round(0.4 * mask.numel())
    assert float(far[mask].min()) >= float(far[~mask].max())
    assert result.as_data()["sparsity"]["asked"] == 0.6


@pytest.mark.usefixtures("registered")
def test_a_transform_is_applied_to_the_weights_of_a_trial(setup_of: Callable[[Mapping[str, Any]], TrialSetup]) -> None:
    plain = run_trial(setup_of(recipe("magnitude")), None)
    halved = run_trial(setup_of(recipe("magnitude", weights={"at": "end", "transform": ["halve"]})), None)
    assert halved.masks.sha256 == plain.masks.sha256
    assert all(torch.equal(halved.tensors[name], tensor * 0.5) for name, tensor in plain.tensors.items())


def test_withdrawn_it_is_unknown_again() -> None:
    assert NAME not in CRITERIA
    with pytest.raises(UserError, match=r"mask\.criterion"):
        space(NAME)
