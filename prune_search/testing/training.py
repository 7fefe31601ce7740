"""Checks of the parts of training: data, models, losses, metrics, optimizers, schedules, initializers, augmenting."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe.axes import (
    AUGMENTATIONS,
    DATASETS,
    INITS,
    LOSSES,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    TASK_METRICS,
)
from prune_search.tasks.data import DataSet
from prune_search.tasks.metrics import Measured, evaluate
from prune_search.tasks.network import output_layer, prunable_weights
from prune_search.tasks.tallies import Seen
from prune_search.testing.checked import Checked
from prune_search.testing.entries import check_entry
from prune_search.testing.networks import trained_network
from prune_search.training.initialized import initialize
from prune_search.training.optimizers import load_state_tensors, state_tensors
from prune_search.training.teaching import Lesson

STEPS = 8


def check_optimizer(name: str, **options: object) -> None:
    """An optimizer that is stored and restored after every step trains on bit for bit.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(OPTIMIZERS, name, options)
    whole, part = trained_network(), trained_network()
    optimizer = _optimizer_of(one, whole)
    _train(whole, optimizer, range(STEPS))
    restored = _optimizer_of(one, part)
    for step in range(STEPS):
        _train(part, restored, range(step, step + 1))
        stored = state_tensors(restored, _names(part))
        part = copy.deepcopy(part)
        restored = _optimizer_of(one, part)
        load_state_tensors(restored, _names(part), stored)
    same = all(torch.equal(part.state_dict()[key], value) for key, value in whole.state_dict().items())
    one.require(same, "if stored and restored after every step, it trains to different weights")
    buffers, others = state_tensors(optimizer, _names(whole)), state_tensors(restored, _names(part))
    kept = buffers.keys() == others.keys() and all(torch.equal(buffers[key], others[key]) for key in buffers)
    one.require(kept, "if stored and restored after every step, its own state differs")
    moved = not torch.equal(whole.get_parameter("4.weight"), trained_network().get_parameter("4.weight"))
    one.require(moved, f"in {STEPS} steps it changes no weight")


def _optimizer_of(one: Checked, model: nn.Module) -> torch.optim.Optimizer:
    options = dict(one.named.options)
    return OPTIMIZERS[one.name].make(list(model.parameters()), options.pop("lr"), **options)


def _names(model: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        source = torch.Generator().manual_seed(step)
        inputs, labels = torch.randn(6, 1, 8, 8, generator=source), torch.randint(5, (6,), generator=source)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def check_schedule(name: str, **options: object) -> None:
    """A schedule's rates are finite and not negative, past the end too, and depend on the step alone.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(SCHEDULES, name, options)
    for total in (1, 7, 100):
        rate = SCHEDULES[name].make(0.3, total, 10, **one.named.options)
        rates = [rate(step) for step in range(total + 20)]
        finite = all(isinstance(value, float) and math.isfinite(value) and value >= 0 for value in rates)
        one.require(finite, f"over {total} steps a rate is negative, not finite or not a float: {rates}")
        one.require(max(rates[:total]) > 0, f"over {total} steps every rate is 0")
        backwards = [rate(step) for step in reversed(range(total + 20))]
        one.require(backwards == rates[::-1], f"over {total} steps a rate depends on the steps that were asked before")


def check_initializer(name: str, **options: object) -> None:
    """An initializer's weights are finite, and depend on the seed and the stream alone.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(INITS, name, options)
    entry = INITS[name]
    inputs = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def drawn(seed: int, stream: str, disturbance: int) -> dict[str, Tensor]:
        model = trained_network()
        torch.manual_seed(disturbance)
        initialize(one.named, model, seed, lambda count: inputs[:count], stream)
        return {key: value.clone() for key, value in model.state_dict().items()}

    first, again = drawn(1, "init", 0), drawn(1, "init", 5)
    same = all(torch.equal(first[key], again[key]) for key in first)
    one.require(same, "with the same seed and stream, it makes different weights after other random draws")
    one.require(all(bool(torch.isfinite(value).all()) for value in first.values()), "a weight of it is not finite")
    for what, other in (("seed", drawn(2, "init", 0)), ("stream", drawn(1, "elsewhere", 0))):
        equal = torch.equal(first["4.weight"], other["4.weight"])
        weights = "the same weights" if equal else "other weights"
        text = f"it declares draws={entry.facts.draws}, and another {what} gives {weights}"
        one.require(equal is not entry.facts.draws, text)


def check_augmentation(name: str, **options: object) -> None:
    """An augmentation gives pictures of the same shape and levels, drawn by its generator, and leaves the given ones.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(AUGMENTATIONS, name, options)
    inputs = torch.randn(12, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    before = inputs.clone()

    def drawn(seed: int) -> Tensor:
        return AUGMENTATIONS[name].make(inputs, torch.Generator().manual_seed(seed), **one.named.options)

    torch.manual_seed(0)
    first = drawn(1)
    torch.manual_seed(1)
    one.require(torch.equal(first, drawn(1)), "its pictures depend on more than its generator")
    form = f"of pictures {list(inputs.shape)} in {inputs.dtype} it makes {list(first.shape)} in {first.dtype}"
    one.require((first.shape, first.dtype) == (inputs.shape, inputs.dtype), form)
    one.require(torch.equal(inputs, before), "it changes its input pictures")
    known = set(first.flatten().tolist()) <= {0.0, *inputs.flatten().tolist()}
    declared = AUGMENTATIONS[name].facts.new_levels
    one.require(known or declared, "its pictures have levels that are neither 0 nor in the given ones")
    one.require(not (known and declared), "it declares new_levels, and makes none")


# By what a loss or a metric takes: outputs [8, …] and the targets that go with them.
def _outputs_and_targets(target: str) -> tuple[Tensor, Tensor | None]:
    source = torch.Generator().manual_seed(0)
    shape = {"tokens": (8, 6, 7), "numbers": (8, 3, 4, 4)}.get(target, (8, 7))
    outputs = torch.randn(shape, generator=source)
    targets = {
        "classes": torch.arange(8) % 7,
        "chances": (torch.arange(56).reshape(8, 7) % 3 == 0).float(),
        "numbers": torch.randn(shape, generator=source),
        "tokens": torch.randint(7, (8, 6), generator=source),
    }
    return outputs, targets.get(target)


def check_loss(name: str, **options: object) -> None:
    """A loss is one finite number with a gradient, of outputs and targets of the kind that it declares.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(LOSSES, name, options)
    facts = LOSSES[name].facts
    logits, targets = _outputs_and_targets("classes" if facts.target == "outputs" else facts.target)
    logits.requires_grad_()
    more: dict[str, object] = {}
    if facts.taught:
        said = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        more["lesson"] = Lesson(said, torch.nn.functional.cross_entropy)
    outputs: object = {"logits": logits, "loss": logits.square().mean()} if facts.target == "outputs" else logits
    loss = LOSSES[name].make(outputs, targets, **one.named.options, **more)
    one.require(loss.shape == (), f"it is a tensor {list(loss.shape)}, not one number")
    loss.backward()  # type: ignore[no-untyped-call]
    grad = logits.grad
    one.require(torch.isfinite(loss), "it is not finite")
    one.require(grad is not None and torch.isfinite(grad).all(), "its gradient is not finite, or there is none")
    one.require(grad is not None and (grad != 0).any(), "its gradient is 0 everywhere")
    measured = facts.metric in TASK_METRICS
    one.require(measured, f"it declares metric={facts.metric!r}: {', '.join(sorted(TASK_METRICS))}")


def check_task_metric(name: str, target: str = "", **options: object) -> None:
    """A metric of a task is a finite number that does not depend on how the examples are cut into batches.

    Where it is better for right outputs than for wrong ones, it declares so.

    Args:
        name: of the metric.
        target: the targets that it is checked with: ``classes``, ``chances``, ``numbers`` or ``tokens``; empty: the
            first of them that it accepts.
        options: that it is checked with.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(TASK_METRICS, name, options)
    facts = TASK_METRICS[name].facts
    refused: dict[str, str] = {}
    for kind in (target,) if target else ("numbers", "classes", "chances", "tokens"):
        outputs, targets = _outputs_and_targets(kind)
        if targets is None:
            raise ValueError(f"target must be classes, chances, numbers or tokens (got {target!r})")
        right = _right_outputs(kind, outputs, targets)

        def figure(
            scores: Tensor, batch: int, kind: str = kind, outputs: Tensor = outputs, targets: Tensor = targets
        ) -> float:
            tally: Any = TASK_METRICS[name].make(
                kind, outputs.shape[1 if kind == "classes" else -1], **one.named.options
            )
            for start in range(0, len(targets), batch):
                some = scores[start : start + batch], targets[start : start + batch]
                tally.update(Seen(some[0], some, some[1], len(some[0]), 0.0))
            return float(tally.value())

        try:
            whole = figure(outputs, len(targets))
        except Exception as error:  # noqa: BLE001 - whatever says that these targets are none of its own
            refused[kind] = f"{kind}: {type(error).__name__}: {error}"
            continue
        one.require(type(whole) is float and math.isfinite(whole), f"it is {whole!r}, not a finite float")
        for batch in (3, 4):
            parts = figure(outputs, batch)
            text = f"of 8 examples at once it is {whole}, and of batches of {batch} {parts}"
            one.require(math.isclose(parts, whole, rel_tol=1e-4, abs_tol=1e-6), text)
        best, wrong = figure(right, len(targets)), whole
        better = best > wrong if facts.best == "maximize" else best < wrong
        one.require(
            better, f"it declares best={facts.best!r}, and is {best} of right outputs and {wrong} of wrong ones"
        )
        one.require(not facts.share or max(best, wrong) <= 1, f"it declares share, and is {max(best, wrong)}")
        return
    one.require(False, f"it accepts no targets: {'; '.join(refused.values())}")


def _right_outputs(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs [8, …] that fit their targets well, and not so well that a metric is infinite."""
    if kind == "numbers":
        return targets + 0.01 * outputs
    if kind == "chances":
        return 20.0 * (targets - 0.5)
    told = targets
    if kind == "tokens":
        told = torch.cat([targets[:, 1:], targets[:, :1]], dim=1)
    return 10.0 * nn.functional.one_hot(told, outputs.shape[-1]).float()


def check_data_set(name: str, data_root: Path | None = None, **options: object) -> None:
    """A data set is what it declares: examples, classes, shape; every part has every class, and finite inputs.

    Args:
        name: of the data set.
        data_root: where its files are; None for one that needs no file.
        options: that it is checked with.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(DATASETS, name, options)
    facts = DATASETS[name].facts.having(one.named.options)
    data = DATASETS[name].build(DataSet, data_root, **one.named.options)
    for what, found, declared in (
        ("training examples", len(data.train), facts.train_examples),
        ("classes", data.classes, facts.classes),
        ("shape", data.shape, facts.shape),
    ):
        one.require(not declared or found == declared, f"it declares {what} {declared}, and has {found}")
    for part, split in data.splits.items():
        one.require(len(split) > 0, f"it has no {part} examples")
        one.require(split.inputs.dtype == torch.float32, f"its {part} inputs are {split.inputs.dtype}, and not float32")
        one.require(torch.isfinite(split.inputs).all(), f"some of its {part} inputs are not finite")
        labels = set(split.labels.tolist())
        one.require(labels == set(range(data.classes)), f"its {part} labels are {sorted(labels)}")
    again = DATASETS[name].build(DataSet, data_root, **one.named.options)
    one.require(data.digest == again.digest, "its digest differs when it is read twice")


def check_model(name: str, shapes: tuple[tuple[int, ...], ...] = ((1, 8, 8), (3, 32, 32)), **options: object) -> None:
    """A model gives a logit per class (one that makes pictures: per pixel), and every weight to prune has a gradient.

    Args:
        name: of the model.
        shapes: of an input, that it is checked with.
        options: that it is checked with.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(MODELS, name, options)
    for shape in shapes:
        torch.manual_seed(0)
        model = MODELS[name].make(shape, 7, **one.named.options)
        inputs = torch.randn(4, *shape)
        logits = model(inputs)
        of = f"of 4 inputs {list(shape)} and 7 classes"
        made = (4, 7, *shape[1:]) if MODELS[name].facts.pictures else (4, 7)
        one.require(logits.shape == made, f"{of} it makes logits {list(logits.shape)}, and not {list(made)}")
        one.require(torch.isfinite(logits).all(), f"{of} some logits are not finite")
        labels = torch.arange(4).reshape(4, *[1] * len(made[2:])).expand(4, *made[2:])
        nn.functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        weights = prunable_weights(model)
        one.require(len(weights) >= 1, "it has no weight that can be pruned")
        for key, weight in weights.items():
            has = weight.grad is not None and bool(torch.isfinite(weight.grad).all())
            one.require(has, f"the gradient of {key} is not finite, or there is none")
        found, last = output_layer(model, inputs), list(weights)[-1]
        one.require(found == last, f"its output layer is {found}, and its last weight {last}")


def check_metric(name: str, **options: object) -> None:
    """A metric is a finite number of what was measured on the part of the data that it declares.

    Where this machine lacks what it needs, by its own facts, only these are looked at.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(METRICS, name, options)
    embedded = min(key for key, entry in DATASETS.items() if entry.facts.embedded)
    data = DATASETS[embedded].build(DataSet, None)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(data.shape), 4), nn.ReLU(), nn.Linear(4, data.classes))
    facts = METRICS[name].facts
    scores = {key: evaluate(model, split) for key, split in data.splits.items() if facts.split in (key, "")}
    total = {key: weight.numel() for key, weight in prunable_weights(model).items()}
    kept = {key: count // 3 for key, count in total.items()}
    if facts.lacks is not None and facts.lacks():
        return
    value = METRICS[name].make(Measured(scores, kept, total, 17, lambda: model, data), **one.named.options)
    one.require(isinstance(value, float) and math.isfinite(value), f"it is {value!r}, not a finite float")
    one.require(facts.best in ("maximize", "minimize"), f"it declares best={facts.best!r}: maximize or minimize")
    named = name.startswith("test/") is (facts.split == "test")
    one.require(named, f"it is measured on split={facts.split!r}: what is measured on test data begins with test/")
