"""Tasks with something wrong in each: ``wrong_tasks:…``, for ``--task``; and words of what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from made_tasks import Counted, perceptron
from torch import Tensor, nn
from torch.utils.data import Dataset

from prune_search import Task

INPUTS = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(60) % 3


def network() -> nn.Module:
    """Six inputs, three classes."""
    return perceptron(6, 3)


def task(**changes: Any) -> Task:
    """One that is right, but for the changes."""
    return Task(**{"model": network, "train": (INPUTS, LABELS), "validation": 0.2, **changes})


class Odd(Dataset[Any]):
    """Examples of which number 30 is another one."""

    def __init__(self, odd: Callable[[Tensor, int], Any]) -> None:
        self.odd = odd

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Any:
        if index == 30:
            return self.odd(INPUTS[index], int(LABELS[index]))
        return INPUTS[index], int(LABELS[index])


class Unplaced(torch.utils.data.IterableDataset[Any]):
    """A stream without a state."""

    def __iter__(self) -> Any:
        return iter(zip(INPUTS, LABELS, strict=True))


class Failing(nn.Module):
    """Raises when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, inputs: Tensor) -> Tensor:
        raise RuntimeError("out of tune")


class Silent(Failing):
    """Returns nothing that is a tensor."""

    def forward(self, inputs: Tensor) -> Any:
        return "nothing"


class Keyed(Failing):
    """Names inputs that the batch does not have."""

    def forward(self, *, left: Tensor, right: Tensor) -> Tensor:  # type: ignore[override]
        return left


class Several(Failing):
    """Returns two tensors, of which none is called logits."""

    def forward(self, inputs: Tensor) -> Any:
        return [self.inner(inputs), inputs]


class OnlyEvaluated(Failing):
    """Returns nothing in training mode."""

    def forward(self, inputs: Tensor) -> Any:
        return None if self.training else self.inner(inputs)


class Untrainable(Failing):
    """Raises in training mode."""

    def forward(self, inputs: Tensor) -> Any:
        if self.training:
            raise ValueError("does not train")
        return self.inner(inputs)


def _raises(example: Tensor, label: int) -> Any:
    raise OSError("no such picture")


def _nan_at(place: int) -> Tensor:
    inputs = INPUTS.clone()
    inputs[place, 2] = float("nan")
    return inputs


def _labels_with(value: int) -> Tensor:
    labels = LABELS.clone()
    labels[17] = value
    return labels


# What is wrong: what makes the task, and words of the line that says it.
WRONG: Mapping[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "nan": (lambda: task(train=(_nan_at(41), LABELS), validation=(INPUTS, LABELS)), ("train", "example 41", "NaN")),
    "nan_read": (lambda: task(train=Odd(lambda x, y: (x / 0, y)), validation=(INPUTS, LABELS)), ("example 30", "NaN")),
    "class_too_high": (
        lambda: task(train=(INPUTS, _labels_with(3)), validation=(INPUTS, LABELS)),
        ("example 17", "is 3", "0…2"),
    ),
    "class_below_0": (
        lambda: task(train=(INPUTS, _labels_with(-1)), validation=(INPUTS, LABELS)),
        ("example 17", "-1"),
    ),
    "class_in_validation": (lambda: task(validation=(INPUTS, _labels_with(9))), ("validation", "example 17", "is 9")),
    "shapes": (
        lambda: task(train=Odd(lambda x, y: (x[:5], y)), validation=(INPUTS, LABELS)),
        ("example 30", "[5]", "[6]"),
    ),
    "structure": (lambda: task(train=Odd(lambda x, y: x), validation=(INPUTS, LABELS)), ("example 30", "collate")),
    "unreadable": (lambda: task(train=Odd(_raises), validation=(INPUTS, LABELS)), ("example 30", "no such picture")),
    "lengths": (lambda: task(train=(INPUTS, LABELS[:50])), ("50, 60 examples",)),
    "one_example": (lambda: task(train=(INPUTS[:1], LABELS[:1])), ("1 example",)),
    "one_class": (lambda: task(train=(INPUTS, LABELS * 0)), ("one class only",)),
    "no_validation": (lambda: task(validation=(INPUTS[:0], LABELS[:0])), ("validation has no examples",)),
    "whole_share": (lambda: task(validation=1.0), ("above 0 and below 1",)),
    "no_data": (lambda: task(train=None), ("train is missing",)),
    "stream_without_state": (
        lambda: task(train=Unplaced(), validation=(INPUTS, LABELS)),
        ("no state_dict", "StatefulDataLoader"),
    ),
    "share_of_a_stream": (lambda: task(train=Counted(60, 0)), ("no share of a stream",)),
    "too_few": (lambda: task(train=(INPUTS[:9], LABELS[:9]), validation=(INPUTS, LABELS)), ("9", "16")),
    "network_raises": (lambda: task(model=Failing), ("does not accept", "out of tune")),
    "network_is_silent": (lambda: task(model=Silent), ("without a tensor",)),
    "wrong_keys": (
        lambda: task(model=Keyed, train={"inputs": INPUTS, "labels": LABELS}),
        ("does not accept", "left"),
    ),
    "no_module": (lambda: task(model=lambda: "net"), ("torch.nn.Module",)),
    "loss_of_a_vector": (lambda: task(loss=lambda outputs, batch: outputs[:, 0]), ("one number", "[4]")),
    "loss_is_nan": (lambda: task(loss=lambda outputs, batch: outputs.mean() * float("nan")), ("nan",)),
    "loss_unknown": (lambda: task(loss="cross-entropi"), ("did you mean 'cross-entropy'",)),
    "loss_undecided": (
        lambda: task(train=(INPUTS, INPUTS[:, 0]), model=lambda: perceptron(6, 1)),
        ("name a loss", "mse"),
    ),
    "loss_of_other_shapes": (lambda: task(train=(INPUTS, INPUTS[:, 0]), loss="mse"), ("does not accept",)),
    "class_weights": (
        lambda: task(loss={"name": "cross-entropy", "class_weights": [1.0, 2.0]}),
        ("class_weights has 2", "3 outputs"),
    ),
    "metric_unknown": (lambda: task(metrics=["f2"]), ("metrics.f2", "not one of")),
    "metric_is_no_number": (
        lambda: task(metrics={"mine": lambda outputs, batch: outputs}),
        ("metrics.mine", "one number"),
    ),
    "metric_raises": (
        lambda: task(metrics={"mine": lambda outputs, batch: 1 / 0}),
        ("metrics.mine", "ZeroDivisionError"),
    ),
    "metric_does_not_fit": (lambda: task(metrics=["r2"]), ("metrics.r2",)),
    "metrics_are_no_list": (lambda: task(metrics=network), ("metrics", "a list of names")),
    "metrics_without_order": (lambda: task(metrics={"f1", "top5"}), ("metrics", "a list of names")),
    "outputs_of_a_list": (lambda: task(model=Several), ("list with 2 tensors",)),
    "train_is_a_path": (lambda: task(train="numbers.csv"), ("train must be", "type str")),
    "train_of_lists": (lambda: task(train=(INPUTS.tolist(), LABELS.tolist())), ("list, list", "torch.tensor")),
    "validation_missing": (lambda: task(validation=None), ("validation is missing",)),
    "validation_of_other_shapes": (
        lambda: task(validation=(INPUTS[:, :4], LABELS)),
        ("validation: the network does not accept a batch of ([4, 4], [4])",),
    ),
    "test_without_targets": (lambda: task(test=(INPUTS,)), ("test: the loss does not accept a batch of ([4, 6])",)),
    "types_of_numbers": (lambda: task(train=(INPUTS.double(), LABELS)), ("[4, 6] float64",)),
    "classes_too_few": (lambda: task(classes=2, validation=(INPUTS[:2], LABELS[:2])), ("is 2, and classes is 2",)),
    "training_returns_other_things": (lambda: task(model=OnlyEvaluated), ("in training mode", "NoneType")),
    "training_raises": (lambda: task(model=Untrainable), ("in training mode", "does not train")),
    "nothing_to_train": (lambda: task(model=lambda: network().requires_grad_(False)), ("no gradient", "frozen")),
    "loss_without_gradient": (lambda: task(loss=lambda o, b: (o.detach() ** 2).mean()), ("no gradient", "detached")),
    "loss_counts": (lambda: task(loss=lambda o, b: (o.argmax(1) != b[1]).sum()), ("real number", "int64")),
    "loss_of_torch": (lambda: task(loss=nn.NLLLoss()), ("called with (outputs, batch)",)),
    "missing_file": (lambda: open("no-such-file.csv"), ("FileNotFoundError", "no-such-file.csv")),  # noqa: SIM115
    "no_task": (lambda: 3, ("type int",)),
    "workers": (lambda: task(workers=-2), ("workers", "at least 0")),
}
# One with three things wrong is told in as many lines.
SEVERAL: tuple[Callable[[], Any], tuple[str, ...]] = (
    lambda: task(workers=1.5, loss="mee", metrics={"loss": "f1"}, train=(INPUTS, LABELS[:50])),
    ("workers", "loss", "metrics", "50, 60 examples"),
)


def several() -> Any:
    """Wrong in four places."""
    return SEVERAL[0]()


def __getattr__(name: str) -> Any:
    if name in WRONG:
        made = WRONG[name][0]

        def make() -> Any:
            return made()

        return make
    raise AttributeError(name)
