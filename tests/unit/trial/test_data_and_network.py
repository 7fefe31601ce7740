"""The data that a recipe names and its network: whose code may run, and when data are read to build a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import read_space
from prune_search.tasks.data import DataSet
from prune_search.tasks.task import Task, Whole
from prune_search.trial import data_and_network
from prune_search.trial.data_and_network import Code, build_model, finished_model, read_data
from prune_search.trial.setup import prepare

CPU = torch.device("cpu")


def recipe(**task: object) -> Recipe:
    return read_space({"preset": "dense", "task": task}, "a test").only_recipe()


def net(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Linear(shape[0], classes)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data may be read."""

    def never(*_: object) -> DataSet:
        raise AssertionError("data were read")

    monkeypatch.setattr(data_and_network, "read_data", never)


def test_custom_code_runs_only_where_the_caller_names_it_too() -> None:
    recipe = read_space({"preset": "snip", "task": {"model": "os:getcwd"}}, "a test").only_recipe()
    for code in (None, Code(model="os.path:join"), Code(data="os:getcwd")):
        with pytest.raises(UserError, match=r"task\.model: 'os:getcwd' is custom code: .* --model os:getcwd"):
            prepare(recipe, CPU, code=code)


@pytest.mark.usefixtures("unread")
def test_a_network_is_built_without_data_where_their_shape_is_known_or_was_noted() -> None:
    known = build_model(recipe(data="digits", model={"name": "mlp", "hidden": [4]}), Code(), None)
    assert [tuple(weight.shape) for weight in known.parameters() if weight.dim() > 1] == [(4, 64), (10, 4)]
    noted = {"shape": [3], "classes": 2, "integers": False}
    code = Code(model=net, data="own.data:make")
    own = build_model(recipe(**code.named()), code, None, noted)
    assert tuple(own.get_parameter("weight").shape) == (2, 3)
    with pytest.raises(AssertionError, match="data were read"):
        build_model(recipe(**code.named()), code, None, {"shape": [3], "classes": 0})


@pytest.mark.usefixtures("unread")
def test_the_network_of_a_task_is_built_by_the_task() -> None:
    whole = Whole(Task(model=lambda: nn.Linear(5, 2), train=(torch.zeros(8, 5), torch.zeros(8)), validation=0.5))
    code = Code(whole, whole)
    assert isinstance(build_model(recipe(**code.named()), code, None), nn.Linear)


def test_a_finished_network_has_the_tensors_of_its_result_and_evaluates() -> None:
    made = recipe(data="digits", model={"name": "mlp", "hidden": [4]})
    tensors = {name: torch.ones_like(tensor) for name, tensor in build_model(made, Code(), None).state_dict().items()}
    model = finished_model(made, read_data(made, None, Code()), Code(), tensors)
    assert not model.training
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(UserError, match="the result is missing the tensor"):
        finished_model(made, read_data(made, None, Code()), Code(), {})
