"""A user's own model and data: found by name, called with what they take, checked, and their errors told by line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.tasks.task import Task, Whole
from prune_search.tasks.user import build_user_model, factory_named, name_of, source_digest

GOOD = """\
from torch import nn

def make(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes))

class Holder:
    @staticmethod
    def make(shape, classes):
        return make(shape, classes)

number = 3
"""


def refused(call: Callable[[], object], key: str) -> str:
    """The message of the one problem that `call` is refused with."""
    with pytest.raises(UserError) as caught:
        call()
    assert [problem.path for problem in caught.value.problems] == [key]
    return caught.value.problems[0].message


# --- by name


def test_a_factory_is_found_in_the_current_directory(here: Path) -> None:
    (here / "my_net.py").write_text(GOOD)
    factory = factory_named("my_net:make", "task.model")
    assert isinstance(build_user_model(factory, (4,), 3), nn.Sequential)
    assert name_of(factory) == "my_net:make"


def test_a_factory_is_found_in_a_package_and_in_a_class(here: Path) -> None:
    (here / "nets").mkdir()
    (here / "nets" / "small.py").write_text(GOOD)
    factory = factory_named("nets.small:Holder.make", "task.model")
    assert build_user_model(factory, (4,), 3)(torch.zeros(5, 4)).shape == (5, 3)
    assert name_of(factory) == "nets.small:Holder.make"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "my_net",
        "my_net:",
        ":make",
        "my net:make",
        "my_net:make()",
        "../my_net:make",
        "a..b:c",
        "a:b:c",
        "a/b:c",
    ],
)
def test_another_form_is_refused(text: str) -> None:
    message = refused(lambda: factory_named(text, "task.data"), "task.data")
    assert message == f"{text!r} is not of the form package.module:factory"


@pytest.mark.parametrize(
    ("text", "lacking"), [("no_such_net:make", "no_such_net"), ("json.no_such:make", "json.no_such")]
)
def test_a_module_that_is_not_there_is_named(here: Path, text: str, lacking: str) -> None:
    message = refused(lambda: factory_named(text, "task.model"), "task.model")
    assert f"there is no module {lacking!r}" in message


def test_a_module_that_the_users_module_lacks_is_told_by_its_line(here: Path) -> None:
    (here / "needy.py").write_text("import os\nimport no_such_library\n")
    message = refused(lambda: factory_named("needy:make", "task.model"), "task.model")
    assert "ModuleNotFoundError: No module named 'no_such_library'" in message
    assert f"(line 2 of {here / 'needy.py'})" in message


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("x = 1\n\nx = (\n", "SyntaxError", 3),
        ("\nraise SystemExit(3)", "SystemExit: 3", 2),
        ("1 / 0", "ZeroDivisionError", 1),
    ],
)
def test_an_error_during_the_import_is_told_by_its_line(here: Path, text: str, error: str, line: int) -> None:
    (here / "broken.py").write_text(text)
    message = refused(lambda: factory_named("broken:make", "task.model"), "task.model")
    assert error in message
    assert f"(line {line} of {here / 'broken.py'})" in message


def test_a_missing_attribute_gets_a_suggestion(here: Path) -> None:
    (here / "my_net.py").write_text(GOOD)
    message = refused(lambda: factory_named("my_net:mak", "task.model"), "task.model")
    assert message == "'my_net:mak': my_net has no 'mak' (did you mean 'make'?)"


def test_what_cannot_be_called_is_refused(here: Path) -> None:
    (here / "my_net.py").write_text(GOOD)
    message = refused(lambda: factory_named("my_net:number", "task.model"), "task.model")
    assert message == "'my_net:number' is not a function but a value of type int"


# --- names and digests of sources


def make_linear(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes))


def test_names_of_callables_of_every_kind() -> None:
    class Factory:
        def __call__(self) -> None: ...

        def method(self) -> None: ...

    here = f"{__name__}:test_names_of_callables_of_every_kind.<locals>"
    assert name_of(make_linear) == name_of(partial(make_linear, classes=2)) == f"{__name__}:make_linear"
    assert name_of(Factory) == name_of(Factory()) == f"{here}.Factory"
    assert name_of(Factory().method) == f"{here}.Factory.method"
    assert name_of(nn.Linear) == "torch.nn.modules.linear:Linear"


def test_the_source_digest_changes_with_any_line_of_the_file_and_with_nothing_else(here: Path) -> None:
    def digest(text: str) -> str:
        (here / "my_net.py").write_text(text)
        sys.modules.pop("my_net", None)
        return source_digest(factory_named("my_net:make", "task.model"))

    first = digest(GOOD)
    assert digest(GOOD.replace("number = 3", "number = 4")) != first
    assert digest(GOOD) == first


def test_the_source_digest_changes_with_what_a_callable_carries() -> None:
    def scaled(factor: float) -> Callable[[], float]:
        return lambda: factor

    assert source_digest(partial(make_linear, classes=2)) == source_digest(partial(make_linear, classes=2))
    assert source_digest(partial(make_linear, classes=2)) != source_digest(partial(make_linear, classes=3))
    assert source_digest(scaled(1.0)) == source_digest(scaled(1.0))
    assert source_digest(scaled(1.0)) != source_digest(scaled(2.0))


def test_the_source_of_a_task_that_is_there_is_that_of_its_model_factory() -> None:
    """Its data is hashed by itself: if it counted here as well, `workers` and the like would change every key."""

    def other(classes: int) -> nn.Module:
        return nn.Linear(3, classes)

    def digest(model: Callable[..., nn.Module], examples: int) -> str:
        rows = (torch.zeros(examples, 4), torch.zeros(examples))
        return source_digest(Whole(Task(model=model, train=rows, validation=0.5)))

    assert digest(make_linear, 8) == digest(make_linear, 16) == source_digest(make_linear)
    assert digest(other, 8) != digest(make_linear, 8)


def test_without_a_source_text_the_bytecode_stands_in_for_it() -> None:
    def digest(text: str) -> str:
        names: dict[str, Any] = {"__name__": "typed_in"}
        exec(compile(text, "<typed in>", "exec"), names)
        return source_digest(names["make"])

    first = digest("def make(x):\n    return [x + 1 for _ in range(3)]")
    assert digest("def make(x):\n    return [x + 1 for _ in range(3)]") == first
    assert digest("def make(x):\n    return [x + 2 for _ in range(3)]") != first
    assert digest("def make(x):\n    return [x - 1 for _ in range(3)]") != first


# --- models


def test_a_model_factory_gets_the_keywords_that_it_takes() -> None:
    seen: list[dict[str, Any]] = []

    def net(classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))

    def usual(shape: Any, classes: int) -> nn.Module:
        seen.append({"shape": shape, "classes": classes})
        return net(classes)

    def other(*, num_classes: int, input_shape: Any, width: int = 3) -> nn.Module:
        seen.append({"num_classes": num_classes, "input_shape": input_shape, "width": width})
        return net(num_classes)

    def none(*args: Any, **more: Any) -> nn.Module:
        seen.append(more)
        return net(5)

    for factory in (usual, other, none):
        build_user_model(factory, (3, 2, 2), 5)
    expected = [{"shape": (3, 2, 2), "classes": 5}, {"num_classes": 5, "input_shape": (3, 2, 2), "width": 3}]
    # What takes any keywords hands the number of classes on.
    expected.append({"num_classes": 5})
    assert seen == expected


def test_a_class_and_a_partial_are_model_factories() -> None:
    class Net(nn.Module):
        def __init__(self, classes: int, bias: bool = True) -> None:
            super().__init__()
            self.fc = nn.Linear(4, classes, bias=bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.fc(x)
            return scores

    assert isinstance(build_user_model(Net, (4,), 2), Net)
    without = build_user_model(partial(Net, bias=False), (4,), 2)
    assert [name for name, _ in without.named_parameters()] == ["fc.weight"]


def test_the_check_leaves_a_model_as_it_was() -> None:
    def make(classes: int) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, classes), nn.BatchNorm1d(classes))
        model[0].eval()
        return model

    model = build_user_model(make, (4,), 2)
    assert [module.training for module in model.modules()] == [True, False, True]
    fresh = make(2)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), fresh.state_dict().values(), strict=True))


def test_arguments_that_nobody_gives_are_named() -> None:
    def make(shape: Any, depth: int, /, *, rate: float) -> nn.Module:
        return nn.Identity()

    message = refused(lambda: build_user_model(make, (4,), 2), "task.model")
    assert "make needs shape, depth, rate, but only shape, input_shape, classes, num_classes are passed" in message


def test_what_is_no_module_is_refused() -> None:
    message = refused(lambda: build_user_model(lambda: 3, (4,), 2), "task.model")
    assert "returned a value of type int, not a torch.nn.Module" in message


def test_an_error_in_a_model_factory_is_told_by_its_line(here: Path) -> None:
    (here / "my_net.py").write_text("from torch import nn\n\ndef make(classes):\n    return nn.Linear('a', classes)\n")
    factory = factory_named("my_net:make", "task.model")
    message = refused(lambda: build_user_model(factory, (4,), 2), "task.model")
    assert message.startswith("my_net:make raised TypeError: ")
    assert message.endswith(f"(line 4 of {here / 'my_net.py'})")
    assert "\n" not in message


def test_an_error_in_a_forward_pass_is_told_by_its_line(here: Path) -> None:
    text = (
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        raise ValueError('no\\nway')\n"
    )
    (here / "my_net.py").write_text(text)
    factory = factory_named("my_net:Net", "task.model")
    message = refused(lambda: build_user_model(factory, (4,), 2), "task.model")
    assert message == (
        f"my_net:Net, run on two examples of shape (4,), raised ValueError: no way (line 4 of {here / 'my_net.py'})"
    )


def test_a_user_error_of_the_factory_itself_passes_as_it_is() -> None:
    def make() -> nn.Module:
        raise UserError("only on Mondays")

    with pytest.raises(UserError) as caught:
        build_user_model(make, (4,), 2)
    assert str(caught.value) == "only on Mondays"


@pytest.mark.parametrize(
    ("model", "got"),
    [(nn.Linear(4, 3), "(2, 3)"), (nn.LSTM(4, 2), "a value of type tuple"), (nn.Linear(4, 2), None)],
)
def test_a_model_must_give_one_score_per_class(model: nn.Module, got: str | None) -> None:
    if got is None:
        assert build_user_model(lambda: model, (4,), 2) is model
        return
    message = refused(lambda: build_user_model(lambda: model, (4,), 2), "task.model")
    assert f"must map 2 examples to scores of shape (2, 2) (got {got})" in message


def test_a_softmax_at_the_end_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    for last, said in ((nn.Softmax(dim=1), True), (nn.LogSoftmax(dim=1), False), (nn.ReLU(), False)):
        caplog.clear()
        build_user_model(lambda classes, last=last: nn.Sequential(nn.Linear(3, classes), last), (3,), 4)
        assert ["remove the softmax" in message for message in caplog.messages] == ([True] if said else [])


@pytest.mark.parametrize("given", [nn.Linear(3, 2), 3, ["mlp"]])
def test_what_is_no_function_is_refused_as_such(given: Any) -> None:
    assert "must be a function" in refused(lambda: build_user_model(given, (3,), 2), "task.model")


def test_keywords_are_handed_on_to_a_factory_that_takes_any() -> None:
    def resnet(pretrained: bool = False, **kwargs: int) -> nn.Module:
        return nn.Linear(3, kwargs.get("num_classes", 1000))

    def picky(**kwargs: bool) -> nn.Module:
        return nn.Linear(3, 4, **kwargs)

    def named(classes: int, **kwargs: int) -> nn.Module:
        assert not kwargs
        return nn.Linear(3, classes)

    for factory in (resnet, picky, named, partial(resnet, pretrained=True)):
        assert build_user_model(factory, (3,), 4)(torch.zeros(1, 3)).shape == (1, 4)
    # What a partial binds stays as it is bound.
    with pytest.raises(UserError, match=r"\(got \(2, 7\)\)"):
        build_user_model(partial(resnet, num_classes=7), (3,), 4)


def test_a_file_in_the_place_of_a_module_is_told() -> None:
    with pytest.raises(UserError, match=r"without \.py: tools\.nets:small"):
        factory_named("tools.nets.py:small", "task.model")
