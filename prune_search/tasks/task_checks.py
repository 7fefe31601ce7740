"""Fits a task's data to a network: finds its loss and metrics, and reports mistakes before anything is trained."""

from __future__ import annotations

import functools
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.batches import Inputs, target_of
from prune_search.tasks.examples import Asked, Held, Listed, ReadBatches
from prune_search.tasks.forms import batch_form, form, shortened
from prune_search.tasks.outputs import carried_loss, logits_of
from prune_search.tasks.passes import evaluating, same_draws
from prune_search.tasks.raised import raised
from prune_search.tasks.remarks import SOFTMAX, are_probabilities, label_remarks
from prune_search.tasks.shapes import IGNORED, class_dimension
from prune_search.tasks.state_of_losses import same_value
from prune_search.tasks.stored_split import parts_of
from prune_search.tasks.structures import examples_in, mapped, tensors_in
from prune_search.tasks.tallies import Mean, Tally
from prune_search.tasks.task import task_said
from prune_search.tasks.task_data import TaskData
from prune_search.tasks.task_parts import loss_named, metrics_of, named_metrics

KEY = "task"
SHOWN_TO_THE_NETWORK, LOOKED_AT = 4, 64
_log = logging.getLogger("prune_search")


def check_examples(data: TaskData) -> list[str]:
    """What is wrong with examples themselves: shapes that differ, NaN. All of arrays is looked at, of others some.

    Returns:
        One sentence each, which names the example.
    """
    wrong: list[str] = []
    for part, split in data.splits.items():
        if isinstance(split, Held):
            wrong += [f"{part}: {text}" for text in _odd_numbers(split)]
        elif isinstance(split, Listed):
            wrong += [f"{part}: {text}" for text in _odd_examples(split, data.task.collate is None)]
    labels = data.class_labels()
    if labels is not None and len(labels) > 1 and bool((labels == labels[0]).all()):
        wrong.append(f"train: all {len(labels)} targets are {int(labels[0])}: one class only, and nothing to learn")
    return wrong


def _is_whole(target: Tensor) -> bool:
    return not target.is_floating_point() and not target.is_complex() and target.dtype != torch.bool


def _odd_numbers(split: Held) -> list[str]:
    places = [_first_odd(tensor, split.rows) for tensor in tensors_in(split.content) if tensor.is_floating_point()]
    return [f"example {place} holds NaN or infinite values" for place in places if place is not None]


def _first_odd(tensor: Tensor, rows: Tensor | None) -> int | None:
    """The first example that is not finite. In parts: a mask of all would take a byte for each number."""
    begin = 0
    for part in parts_of(tensor, rows):
        finite = torch.isfinite(part).reshape(len(part), -1).all(1)
        if not bool(finite.all()):
            return begin + int((~finite).nonzero()[0])
        begin += len(part)
    return None


def _odd_examples(split: Listed, alike: bool) -> list[str]:
    count = len(split)
    places = sorted({round(n * (count - 1) / (LOOKED_AT - 1)) for n in range(LOOKED_AT)} | set(range(min(4, count))))
    read = ReadBatches(split.dataset, lambda examples: examples)
    first: tuple[int, Any] | None = None
    found: list[str] = []
    for place in places:
        index = split.at(place)
        try:
            (example,) = read[Asked([index], 0)]
        except UserError as error:
            return [*found, *(problem.message for problem in error.problems)]
        own = form(example)
        if first is None:
            first = (index, own)
        elif alike and own != first[1]:
            others = f"example {first[0]} is {shortened(first[1])}"
            return [*found, f"example {index} is {shortened(own)}, and {others}: pass a collate, or make them alike"]
        if any(t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in _numbers(example)):
            return [*found, f"example {index} holds NaN or infinite values"]
    return found


def _numbers(example: Any) -> list[Tensor]:
    if isinstance(example, Mapping):
        return [tensor for part in example.values() for tensor in _numbers(part)]
    if isinstance(example, tuple | list):
        return [tensor for part in example for tensor in _numbers(part)]
    if isinstance(example, float) or (hasattr(example, "dtype") and not isinstance(example, Tensor)):
        try:
            return [torch.as_tensor(example)]
        except (TypeError, ValueError, RuntimeError):
            return []
    return [example] if isinstance(example, Tensor) else []


def fitted_task(data: TaskData, model: nn.Module) -> TaskData:
    """The data with the loss and the metrics that go with a network, checked on its first batch.

    Args:
        data: as `read_task` gave it.
        model: made to take the task's batches (`Rules.adapted`) where these are not one tensor; else left as it was.

    Raises:
        UserError: with everything that is wrong.
    """
    try:
        device = _device(model)
        whole = mapped(data.train.head(SHOWN_TO_THE_NETWORK), lambda tensor: tensor.to(device))
    except UserError:
        raise
    except Exception as error:
        raise _wrong(f"the examples cannot be put into a batch: {raised(error)}") from error
    inputs = data.usage.rules.inputs(whole)
    if isinstance(inputs, Inputs):
        data.usage.rules.adapted(model)
    try:
        with evaluating(model), same_draws(inputs):
            outputs = model(inputs)
            if not tensors_in(outputs):
                raise _wrong(f"the network returned a {type(outputs).__name__} without a tensor")
    except UserError:
        raise
    except Exception as error:
        raise _wrong(f"the network does not accept a batch of {batch_form(whole)}: {raised(error)}") from error
    with_loss = _with_loss(data, outputs, whole)
    wrong = _wrong_targets(with_loss, outputs)
    if wrong:
        raise UserError(Problem(KEY, text) for text in wrong)
    _check_loss(with_loss, outputs, whole)
    if wrong := [
        text for part in data.splits if part != "train" and (text := _wrong_part(with_loss, model, part, whole))
    ]:
        raise UserError(Problem(KEY, text) for text in wrong)
    for remark in _remarks(with_loss, outputs, whole):
        _log.warning("%s: %s", task_said(data.task, data.name), remark)
    return _with_metrics(with_loss, model, whole)


def _wrong_part(data: TaskData, model: nn.Module, part: str, tried: Any) -> str:
    """What the network or the loss has against a batch of another part of the data; an empty text where nothing.

    Args:
        data: with its loss.
        model: that takes the task's batches.
        part: of the data.
        tried: a batch that was accepted; one of the same form needs no trial.
    """
    try:
        whole = mapped(data.splits[part].head(SHOWN_TO_THE_NETWORK), lambda tensor: tensor.to(_device(model)))
        inputs, labels = data.usage.pair(whole)
        if isinstance(inputs, Inputs):
            data.usage.rules.adapted(model)
    except UserError as error:
        return "; ".join(f"{part}: {problem.message}" for problem in error.problems)
    except Exception as error:  # noqa: BLE001 - whatever the user's code raises
        return f"{part}: the examples cannot be put into a batch: {raised(error)}"
    if form(whole, types=True) == form(tried, types=True):
        return ""
    try:
        with evaluating(model), same_draws(inputs):
            outputs = model(inputs)
    except Exception as error:  # noqa: BLE001 - whatever a user's network raises
        return f"{part}: the network does not accept a batch of {batch_form(whole)}: {raised(error)}"
    try:
        with torch.no_grad():
            found = None if data.loss is None else data.loss(outputs, labels)
    except Exception as error:  # noqa: BLE001 - whatever a user's loss raises
        return f"{part}: the loss does not accept a batch of {batch_form(whole)}: {raised(error)}"
    one = found is None or (isinstance(found, Tensor) and found.numel() == 1)
    return "" if one else f"{part}: the loss is not one number"


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _wrong(text: str) -> UserError:
    return UserError([Problem(KEY, text)])


def _with_loss(data: TaskData, outputs: Any, whole: Any) -> TaskData:
    given = data.task.loss
    if callable(given):
        target = _kind(outputs, whole)
        return replace(data.used(replace(data.usage, whole=True)), loss=given, target=target)
    named = loss_named(given if given is not None else _default_loss(outputs, whole))
    if named is None:
        raise _wrong("no loss is named")
    entry, options = named.entry(axes.LOSSES), dict(named.options)
    if entry.facts.taught:
        raise _wrong(f"loss {named.name} is for retrainings only: set retrain.loss, and give the task another loss")
    loss = functools.partial(entry.make, **options)
    target = entry.facts.target
    if target == "outputs":
        return replace(data, loss=loss, target=_kind(outputs, whole))
    if target_of(whole) is None:
        how = "give the tokens twice, as input and as target" if target == "tokens" else "give a loss of your own"
        raise _wrong(f"loss {named.name} needs a target, and a batch of {batch_form(whole)} has none: {how}")
    return replace(data, loss=loss, target=target)


def _default_loss(outputs: Any, whole: Any) -> str:
    if carried_loss(outputs) is not None:
        return "model"
    target = target_of(whole)
    if isinstance(target, Tensor) and _is_whole(target):
        return "cross-entropy"
    names = ", ".join(sorted(name for name, entry in axes.LOSSES.items() if not entry.facts.taught))
    if target is None:
        raise _wrong(f"a batch of {batch_form(whole)} has no target, so name a loss: {names}, or f(outputs, batch)")
    kind = str(target.dtype).removeprefix("torch.") if isinstance(target, Tensor) else type(target).__name__
    raise _wrong(f"name a loss: targets of type {kind} do not say which; {names}, or f(outputs, batch)")


def _kind(outputs: Any, whole: Any) -> str:
    """What targets are, where no registered loss says it."""
    target = target_of(whole)
    if not isinstance(target, Tensor):
        return ""
    if _is_whole(target):
        ids = whole.get("input_ids") if isinstance(whole, Mapping) else None
        return (
            "tokens"
            if isinstance(ids, Tensor) and ids.shape == target.shape and bool((ids == target).all())
            else "classes"
        )
    return "chances" if target.dtype == torch.bool else "numbers"


def _wrong_targets(data: TaskData, outputs: Any) -> list[str]:
    """Classes that the network has no output for, and class weights that are not one for each."""
    given = data.task.loss
    if data.target != "classes" or callable(given):
        return []
    named = loss_named(given)
    options = {} if named is None else named.options
    ignored, weights = options.get("ignore_index", IGNORED), options.get("class_weights", ())
    try:
        scores = logits_of(outputs)
    except TypeError:
        # Whether the loss takes such outputs shows when it is tried.
        return []
    found: list[str] = []
    for part, split in data.splits.items():
        target = split.target if isinstance(split, Held) else target_of(split.head(SHOWN_TO_THE_NETWORK))
        if not isinstance(target, Tensor) or not _is_whole(target) or scores.dim() < 2:
            continue
        outs = scores.shape[class_dimension(scores, target)]
        if part == "train" and weights and len(weights) != outs:
            found.append(f"loss: class_weights has {len(weights)} values, and the network has {outs} outputs")
        bad = ((target < 0) | (target >= outs)) & (target != ignored)
        if bool(bad.any()):
            place = tuple(int(n) for n in bad.nonzero()[0])
            text = f"is {int(target[place])}, and the network has {outs} outputs (0…{outs - 1})"
            found.append(f"{part}: the target of example {place[0]} {text}")
    return found


def _remarks(data: TaskData, outputs: Any, whole: Any) -> Iterator[str]:
    """What is odd though nothing is wrong with it, of classes that a registered loss is told."""
    target = target_of(whole)
    if data.target != "classes" or callable(data.task.loss) or not isinstance(target, Tensor):
        return
    try:
        scores = logits_of(outputs)
    except TypeError:
        return
    dimension = class_dimension(scores, target)
    if are_probabilities(scores, dimension):
        yield SOFTMAX
    labels = data.class_labels()
    if labels is not None and scores.dim() > 1:
        yield from label_remarks(labels[labels >= 0], scores.shape[dimension])


def _check_loss(data: TaskData, outputs: Any, whole: Any) -> None:
    if data.loss is None:
        raise _wrong("no loss is named")
    try:
        with torch.no_grad():
            found = data.loss(outputs, data.usage.pair(whole)[1])
    except Exception as error:
        shape = form(outputs) if isinstance(outputs, Tensor | tuple | list | Mapping) else type(outputs).__name__
        hint = ""
        if data.usage.whole and isinstance(data.task.loss, nn.Module):
            hint = "; a loss is called with (outputs, batch), and a batch is all that a data set gives, not the target"
        raise _wrong(
            f"the loss does not accept outputs {shape} and a batch of {batch_form(whole)}: {raised(error)}{hint}"
        ) from error
    if not isinstance(found, Tensor) or found.numel() != 1:
        got = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise _wrong(f"the loss must be one number, as a tensor (got {got}): take its mean")
    if not math.isfinite(float(found)):
        raise _wrong(f"the loss of the first {examples_in(whole)} examples is {float(found)}")


def _with_metrics(data: TaskData, model: nn.Module, whole: Any) -> TaskData:
    """The metrics, each tried on a batch; of a task that names none the one that fits its loss."""
    named = metrics_of(data.task, data.target, data.classes)
    wanted, default = named, data.task.metrics is None
    if default:
        wanted = metrics_of(replace(data.task, metrics=_default_metrics(data)), data.target, data.classes)
    problems: list[Problem] = []
    for name, (make, _) in dict(wanted).items():
        text = _try(name, make, data, model, whole)
        if text and default:
            _log.warning("task: %s cannot be measured (%s): only the loss is shown", name, text)
            wanted = {}
        elif text:
            problems.append(Problem(f"{KEY}.metrics.{name}", text))
    if problems:
        raise UserError(problems)
    makers = {name: make for name, (make, _) in wanted.items()}
    return replace(data, metrics=makers, best={name: best for name, (_, best) in wanted.items()})


def _default_metrics(data: TaskData) -> list[str]:
    loss = data.task.loss
    if isinstance(loss, str | Mapping):
        named = loss_named(loss)
        if named is not None and named.entry(axes.LOSSES).facts.target != "outputs":
            return [named.entry(axes.LOSSES).facts.metric]
    of_kind = {"classes": "accuracy", "chances": "accuracy", "numbers": "rmse", "tokens": "perplexity"}
    return [of_kind[data.target]] if data.target in of_kind else []


def _try(name: str, make: Callable[[], Tally], data: TaskData, model: nn.Module, whole: Any) -> str:
    """What is wrong with a metric, tried on one batch; an empty text where nothing is."""
    try:
        # What a metric says of so few examples, that they are all of one class say, is of no use to anybody.
        with warnings.catch_warnings(), evaluating(model), same_draws(data.usage.rules.inputs(whole)):
            warnings.simplefilter("ignore")
            tally = make()
            seen = data.seen(model, whole)
            before = {"outputs": _copies(seen.outputs), "batch": _copies(seen.batch)}
            tally.update(seen)
            found = float(tally.value())
            for what, now in (("outputs", seen.outputs), ("batch", seen.batch)):
                after = tensors_in(now)
                if len(after) != len(before[what]) or not all(map(same_value, before[what], after)):
                    return f"changes the {what} in place, which other metrics see too: let it work on a copy"
    except UserError as error:
        return "; ".join(problem.message for problem in error.problems)
    except Exception as error:  # noqa: BLE001 - whatever a metric raises
        return f"raised {raised(error)}"
    # One of a library can need more examples, or more classes, than these few.
    if isinstance(tally, Mean) and callable(named_metrics(data.task).get(name)) and not math.isfinite(found):
        shown = task_said(data.task, data.name)
        few = examples_in(data.usage.pair(whole)[0])
        text = "if it is so on all of them, no trial can be ranked by it"
        _log.warning("%s: metric %s is %s on the first %d examples: %s", shown, name, found, few, text)
    return ""


def _copies(given: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors_in(given)]
