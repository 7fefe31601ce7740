"""A user's own model and data: found by name, called with what they take, checked, and their errors told by line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from prune_search.recipe.problems import UserError
from prune_search.tasks.data import DataSet, Split
from prune_search.tasks.user import build_user_data, build_user_model, factory_named, name_of, source_digest

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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


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
    assert message == "'my_net:number' is no function but a value of type int"


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
    expected = [{"shape": (3, 2, 2), "classes": 5}, {"num_classes": 5, "input_shape": (3, 2, 2), "width": 3}, {}]
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
    assert "make needs shape, depth, rate; it is given only shape, input_shape, classes, num_classes" in message


def test_what_is_no_module_is_refused() -> None:
    message = refused(lambda: build_user_model(lambda: 3, (4,), 2), "task.model")
    assert "returned a value of type int, no torch.nn.Module" in message


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


# --- data


def pair(count: int, classes: int = 3, dtype: str = "float64") -> tuple[numpy.ndarray, numpy.ndarray]:
    return numpy.arange(count * 4).reshape(count, 4).astype(dtype), numpy.arange(count) % classes


def problems_of(returned: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        build_user_data(lambda: returned, None)
    assert {problem.path for problem in caught.value.problems} == {"task.data"}
    return [problem.message.split("<lambda>: ", 1)[1] for problem in caught.value.problems]


def test_a_mapping_of_arrays_becomes_a_data_set() -> None:
    def letters() -> dict[str, object]:
        return {"train": pair(30), "validation": pair(6), "test": pair(9, dtype="uint8")}

    data = build_user_data(letters, None)
    assert [len(split) for split in data.splits.values()] == [30, 6, 9]
    assert (data.shape, data.classes) == ((4,), 3)
    assert data.name.endswith(":test_a_mapping_of_arrays_becomes_a_data_set.<locals>.letters")
    for split in data.splits.values():
        assert (split.inputs.dtype, split.labels.dtype) == (torch.float32, torch.int64)
        assert torch.equal(split.inputs, torch.arange(4.0 * len(split)).reshape(-1, 4))


def test_tensors_lists_and_read_only_arrays_do_as_well() -> None:
    inputs, labels = pair(10)
    inputs.setflags(write=False)
    data = build_user_data(
        lambda: {
            "train": [torch.arange(40).reshape(10, 4).half(), torch.arange(10, dtype=torch.uint8) % 3],
            "validation": (inputs, labels.astype(">i4")),
            "test": ([[1, 2, 3, 4]], [0]),
        },
        None,
    )
    assert torch.equal(data.train.inputs, data.validation.inputs)
    assert torch.equal(data.train.labels, data.validation.labels)
    assert data.test.inputs.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_without_a_validation_split_a_tenth_of_the_training_examples_is_held_out() -> None:
    data = build_user_data(lambda: {"train": pair(60), "test": pair(9)}, None)
    assert [len(split) for split in data.splits.values()] == [54, 6, 9]
    assert torch.bincount(data.validation.labels).tolist() == [2, 2, 2]
    both = torch.cat([data.train.inputs, data.validation.inputs])
    assert sorted(both[:, 0].tolist()) == [4.0 * place for place in range(60)]
    assert build_user_data(lambda: {"train": pair(60), "test": pair(9)}, None).digest == data.digest


def test_two_training_examples_are_enough_to_hold_one_out() -> None:
    data = build_user_data(lambda: {"train": pair(2, classes=1), "test": pair(1)}, None)
    assert [len(split) for split in data.splits.values()] == [1, 1, 1]


def test_a_data_set_passes_as_it_is_under_the_factorys_name() -> None:
    split = Split(torch.zeros(2, 4), torch.tensor([0, 1]))
    given = DataSet("another name", split, split, split, classes=5)
    data = build_user_data(lambda: given, None)
    assert data.digest == given.digest
    assert data.classes == 5
    assert data.name.endswith("<lambda>")


def test_a_data_factory_gets_the_root_under_either_name(tmp_path: Path) -> None:
    seen: list[Path | None] = []

    def one(root: Path | None) -> dict[str, object]:
        seen.append(root)
        return {"train": pair(10), "test": pair(3)}

    def other(data_root: Path | None = None) -> dict[str, object]:
        return one(data_root)

    build_user_data(one, tmp_path)
    build_user_data(other, tmp_path)
    build_user_data(one, None)
    assert seen == [tmp_path, tmp_path, None]


def test_an_error_in_a_data_factory_is_told_by_its_line(here: Path) -> None:
    (here / "my_data.py").write_text("import json\n\ndef make(root):\n    return json.loads('{')\n")
    message = refused(lambda: build_user_data(factory_named("my_data:make", "task.data"), None), "task.data")
    assert message.startswith("my_data:make raised JSONDecodeError: ")
    assert message.endswith(f"(line 4 of {here / 'my_data.py'})")


@pytest.mark.parametrize("returned", [None, 3, (pair(10), pair(3))])
def test_what_is_no_data_set_is_refused(returned: object) -> None:
    (message,) = problems_of(returned)
    assert message.startswith("it must return a DataSet or a mapping with the keys train, test")


def with_train(inputs: object, labels: object, **more: object) -> dict[str, object]:
    return {"train": (inputs, labels), "test": pair(3), **more}


INPUTS, LABELS = pair(10)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"train": pair(10)}, "the key 'test' is missing: a pair of inputs and labels"),
        ({"test": pair(10)}, "the key 'train' is missing: a pair of inputs and labels"),
        ({"train": pair(10), "test": pair(3), "tset": 1}, "'tset' is no key of a data set (did you mean 'test'?)"),
        ({"train": INPUTS, "test": pair(3)}, "train must be a pair of inputs and labels (got a value of type ndarray)"),
        (with_train(INPUTS, LABELS[:9]), "train has 10 inputs but 9 labels"),
        (with_train(INPUTS, LABELS.astype(float)), "train labels must be whole numbers (got float64)"),
        (with_train(INPUTS, torch.ones(10)), "train labels must be whole numbers (got torch.float32)"),
        (with_train(INPUTS.astype(complex), LABELS), "train inputs must be real numbers (got complex128)"),
        (with_train(torch.ones(10, 4) * 1j, LABELS), "train inputs must be real numbers (got torch.complex64)"),
        (with_train(INPUTS.astype(str), LABELS), "train inputs must be real numbers (got <U32)"),
        (with_train(INPUTS, LABELS.reshape(5, 2)), "train labels must have one dimension (got shape (5, 2))"),
        (
            with_train(LABELS, LABELS),
            "train inputs must have a dimension of examples and at least one more (got (10,))",
        ),
        (with_train(INPUTS * numpy.nan, LABELS), "train inputs hold values that are not finite"),
        (with_train(INPUTS + 1e300, LABELS), "train inputs hold values that are not finite as float32"),
        (with_train(INPUTS[:0], LABELS[:0]), "train holds no example (inputs (0, 4), labels (0,))"),
        (with_train(INPUTS, LABELS - 1), "train labels must be 0 … 1 for 2 classes (got -1)"),
        (with_train(INPUTS, LABELS, classes=2), "train labels must be 0 … 1 for 2 classes (got 2)"),
        (with_train(INPUTS, LABELS * 10**9), "2000000001 classes are more than 100000: labels must be numbered from 0"),
        (with_train(INPUTS, LABELS, classes=0), "'classes' must be a positive whole number (got 0)"),
        (with_train(INPUTS, LABELS, classes="3"), "'classes' must be a positive whole number (got '3')"),
        (with_train(INPUTS, LABELS, test=pair(9, classes=4)), "test labels must be 0 … 2 for 3 classes (got 3)"),
        (with_train(INPUTS[:, :3], LABELS), "an example of test has the shape (4,), one of train (3,)"),
        (with_train(*pair(1)), "train has one example, of which no validation split can be held out"),
        (with_train([[1, 2], [3]], [0, 1]), "train inputs are no array: "),
    ],
)
def test_what_is_wrong_with_data_is_told(returned: object, message: str) -> None:
    assert any(found.startswith(message) for found in problems_of(returned)), problems_of(returned)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    returned = {"train": (INPUTS + numpy.inf, LABELS[:3]), "validation": 3, "test": pair(0), "more": 1}
    assert len(problems_of(returned)) == 5
