"""Checks what a user's data factory returned and turns it into a data set."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor

from prune_search.recipe.problems import shown, suggestion
from prune_search.tasks.data import DataSet, Split, split_off

KEYS = ("train", "validation", "test", "classes")
HELD_OUT = 10  # one in ten of the training examples, where no validation split is given
MAX_CLASSES = 100_000
MAX_NAMED = 10
_log = logging.getLogger("prune_search")


def read_data(name: str, returned: Any) -> tuple[DataSet | None, list[str]]:
    """A data set from what a factory returned.

    Inputs may be of any real type: integers stay integers (a network that does not take them is given float32), all
    else becomes float32 as it is (bytes stay 0 … 255). Labels may be of any integer
    type and become int64. Without a validation split a tenth of the training examples, stratified, is held out.
    Without "classes" the largest training label says how many there are.

    Args:
        name: the name of the data set.
        returned: a `DataSet`, or a mapping with "train", "test" and perhaps "validation" and "classes".

    Returns:
        The data set, or None and everything that is wrong with it.
    """
    if isinstance(returned, DataSet):
        given: dict[str, Any] = {**returned.splits, "classes": returned.classes}
    elif isinstance(returned, Mapping):
        given = dict(returned)
    else:
        expected = "a DataSet or a mapping with the keys train, test and perhaps validation"
        return None, [f"it must return {expected} (got a value of type {type(returned).__name__})"]
    wrong = [f"{shown(key)} is not a key of a data set{suggestion(key, KEYS)}" for key in given if key not in KEYS]
    wrong += [
        f"the key {key!r} is missing: a pair of inputs and labels" for key in ("train", "test") if key not in given
    ]
    splits = {key: _split(given[key], key, wrong) for key in KEYS[:3] if key in given}
    whole = {key: split for key, split in splits.items() if split is not None}
    classes = given.get("classes")
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 1):
        wrong.append(f"'classes' must be a positive whole number (got {shown(classes)})")
        classes = None
    if "train" in whole:
        _check_shapes(whole, wrong)
        classes = classes or max(1, int(whole["train"].labels.max()) + 1)
        if classes > MAX_CLASSES:
            wrong.append(f"{classes} classes are more than {MAX_CLASSES}; labels must be numbered from 0")
        else:
            _check_labels(whole, classes, wrong)
        if "validation" not in given and len(whole["train"]) < 2:
            wrong.append("train has a single example, so no validation split can be held out")
    if wrong:
        return None, wrong
    if any(split.inputs.is_floating_point() for split in whole.values()):
        whole = {key: Split(split.inputs.to(torch.float32), split.labels) for key, split in whole.items()}
    if "validation" not in whole:
        train = whole["train"]
        held_out = max(1, len(train) // HELD_OUT)
        whole["train"], whole["validation"] = split_off(train.inputs, train.labels, held_out)
    for remark in _remarks(whole["train"].labels, classes or 1):
        _log.warning("%s: %s", name, remark)
    ours = "validation" not in given or bool(getattr(returned, "held_out", False))
    return DataSet(name, whole["train"], whole["validation"], whole["test"], classes or 1, ours), []


def _remarks(labels: Tensor, classes: int) -> Iterator[str]:
    """What is odd about the training labels, int64 [N], though nothing is wrong with them."""
    if classes == 1:
        yield "there is one class only, so that every network is right: are the labels those that were meant?"
        return
    unused = (torch.bincount(labels, minlength=classes) == 0).nonzero().flatten().tolist()
    if unused == [0]:
        yield "the training labels begin at 1, so that class 0 never occurs: subtract 1"
    elif unused:
        names = ", ".join(map(str, unused[:MAX_NAMED])) + (" …" if len(unused) > MAX_NAMED else "")
        yield f"of {classes} classes {len(unused)} never occur in the training labels: {names}"


def _split(raw: Any, key: str, wrong: list[str]) -> Split | None:
    """One split, or None where something is wrong with it by itself."""
    if isinstance(raw, Split):
        raw = (raw.inputs, raw.labels)
    if not isinstance(raw, tuple | list) or len(raw) != 2:
        wrong.append(f"{key} must be a pair of inputs and labels (got a value of type {type(raw).__name__})")
        return None
    inputs = _tensor(raw[0], f"{key} inputs", "real", torch.float32, wrong)
    labels = _tensor(raw[1], f"{key} labels", "whole", torch.int64, wrong)
    if inputs is None or labels is None:
        return None
    before = len(wrong)
    if inputs.dim() < 2:
        wrong.append(f"{key} inputs must have an example dimension and at least one more (got {tuple(inputs.shape)})")
    if labels.dim() != 1:
        wrong.append(f"{key} labels must have one dimension (got shape {tuple(labels.shape)})")
    elif inputs.dim() and len(inputs) != len(labels):
        wrong.append(f"{key} has {len(inputs)} inputs but {len(labels)} labels")
    if not inputs.numel() or not labels.numel():
        wrong.append(f"{key} has no examples (inputs {tuple(inputs.shape)}, labels {tuple(labels.shape)})")
    elif not bool(torch.isfinite(inputs).all()):
        wrong.append(f"{key} inputs contain values that are not finite as float32")
    return Split(inputs, labels) if len(wrong) == before else None


def _tensor(raw: Any, what: str, numbers: str, dtype: torch.dtype, wrong: list[str]) -> Tensor | None:
    """`raw` as a tensor of `dtype` on the CPU, or None where its numbers are not "real" or "whole"."""
    if isinstance(raw, Tensor):
        whole = not raw.is_floating_point() and not raw.is_complex() and raw.dtype != torch.bool
        if whole or (numbers == "real" and not raw.is_complex()):
            kept = _integers(raw.dtype) if whole and numbers == "real" else dtype
            return raw.detach().to("cpu", kept).contiguous()
        wrong.append(f"{what} must be {numbers} numbers (got {raw.dtype})")
        return None
    try:
        array = numpy.asarray(raw)
    except ValueError as error:
        wrong.append(f"{what} are not an array: {error}")
        return None
    if array.dtype.kind not in ("iu" if numbers == "whole" else "iufb"):
        wrong.append(f"{what} must be {numbers} numbers (got {array.dtype})")
        return None
    if numbers == "real" and array.dtype.kind in "iu":
        wanted = "uint8" if array.dtype == numpy.uint8 else "int64"
        return torch.from_numpy(numpy.array(array, dtype=wanted, order="C"))
    with numpy.errstate(over="ignore"):  # what becomes infinite is refused with a message of our own
        return torch.from_numpy(numpy.array(array, dtype=str(dtype).removeprefix("torch."), order="C"))


def _integers(dtype: torch.dtype) -> torch.dtype:
    """The type that integers are held in: bytes stay bytes, of which there may be many."""
    return dtype if dtype == torch.uint8 else torch.int64


def _check_shapes(splits: Mapping[str, Split], wrong: list[str]) -> None:
    shape = tuple(splits["train"].inputs.shape[1:])
    for key, split in splits.items():
        if tuple(split.inputs.shape[1:]) != shape:
            wrong.append(
                f"an example of {key} has the shape {tuple(split.inputs.shape[1:])}, but an example of train "
                f"has {shape}"
            )


def _check_labels(splits: Mapping[str, Split], classes: int, wrong: list[str]) -> None:
    lowest = min(int(split.labels.min()) for split in splits.values())
    if lowest < 0:
        wrong.append(f"labels must be 0 or more (got {lowest})")
        return
    for key, split in splits.items():
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            bad = low if low < 0 else high
            wrong.append(f"{key} labels must be 0 … {classes - 1} for {classes} classes (got {bad})")
