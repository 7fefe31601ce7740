"""Checks what a user's data factory returned and turns it into a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor

from prune_search.recipe.problems import shown, suggestion
from prune_search.tasks.data import DataSet, Split, split_indices
from prune_search.tasks.remarks import label_remarks
from prune_search.tasks.stored_split import KEPT, StoredSplit, as_stored

KEYS = ("train", "validation", "test", "classes")
HELD_OUT = 10  # one in ten of the training examples, where no validation split is given
MAX_CLASSES = 100_000
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
    if any(split.dtype.is_floating_point for split in whole.values()):
        whole = {key: split.as_type(torch.float32) for key, split in whole.items()}
    if "validation" not in whole:
        train = whole["train"]
        rest, held = split_indices(train.labels, max(1, len(train) // HELD_OUT))
        whole["train"], whole["validation"] = train.chosen(rest), train.chosen(held)
    for remark in label_remarks(whole["train"].labels, classes or 1):
        _log.warning("%s: %s", name, remark)
    ours = "validation" not in given or bool(getattr(returned, "held_out", False))
    return DataSet(name, whole["train"], whole["validation"], whole["test"], classes or 1, ours), []


def _split(raw: Any, key: str, wrong: list[str]) -> StoredSplit | None:
    """One split, or None where something is wrong with it by itself."""
    if isinstance(raw, Split | StoredSplit):
        raw = (raw.inputs, raw.labels)
    if not isinstance(raw, tuple | list) or len(raw) != 2:
        wrong.append(f"{key} must be a pair of inputs and labels (got a value of type {type(raw).__name__})")
        return None
    inputs = _inputs(raw[0], f"{key} inputs", wrong)
    labels = _labels(raw[1], f"{key} labels", wrong)
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
    elif inputs.dim() and inputs.is_floating_point() and not _are_finite(inputs):
        wrong.append(f"{key} inputs contain values that are not finite as float32")
    return StoredSplit(inputs, labels, _held_as(inputs.dtype)) if len(wrong) == before else None


def _are_finite(inputs: Tensor) -> bool:
    """Whether all values [...] are finite as float32, a few megabytes at a time."""
    whole = StoredSplit(inputs, torch.empty(len(inputs), dtype=torch.int64), torch.float32)
    return all(bool(torch.isfinite(part).all()) for part in whole.input_parts())


def _inputs(raw: Any, what: str, wrong: list[str]) -> Tensor | None:
    """Inputs as they are stored, without a copy where torch can have them so; None where they are no real numbers."""
    if isinstance(raw, Tensor):
        if not raw.is_complex():
            as_it_is = raw.dtype in KEPT
            otherwise = torch.float32 if raw.is_floating_point() or raw.dtype == torch.bool else torch.int64
            return raw.detach().to("cpu", raw.dtype if as_it_is else otherwise).contiguous()
        wrong.append(f"{what} must be real numbers (got {raw.dtype})")
        return None
    array = _array(raw, what, "iufb", "real", wrong)
    if array is None or (stored := as_stored(array)) is not None:
        return None if array is None else stored
    wanted = "int64" if array.dtype.kind in "iu" and array.dtype != numpy.uint8 else "float32"
    wanted = "uint8" if array.dtype == numpy.uint8 else wanted
    with numpy.errstate(over="ignore"):  # what becomes infinite is refused with a message of our own
        return torch.from_numpy(numpy.array(array, dtype=wanted, order="C"))


def _labels(raw: Any, what: str, wrong: list[str]) -> Tensor | None:
    """Labels as int64 on the CPU, or None where they are no whole numbers."""
    if isinstance(raw, Tensor):
        if not raw.is_floating_point() and not raw.is_complex() and raw.dtype != torch.bool:
            return raw.detach().to("cpu", torch.int64).contiguous()
        wrong.append(f"{what} must be whole numbers (got {raw.dtype})")
        return None
    array = _array(raw, what, "iu", "whole", wrong)
    return None if array is None else torch.from_numpy(numpy.array(array, dtype="int64", order="C"))


def _array(raw: Any, what: str, kinds: str, numbers: str, wrong: list[str]) -> numpy.ndarray[Any, Any] | None:
    """`raw` as an array, without a copy where it is one; None where its type is of none of the kinds."""
    try:
        array = numpy.asarray(raw)
    except ValueError as error:
        wrong.append(f"{what} are not an array: {error}")
        return None
    if array.dtype.kind not in kinds:
        wrong.append(f"{what} must be {numbers} numbers (got {array.dtype})")
        return None
    return array


def _held_as(stored: torch.dtype) -> torch.dtype:
    """The type of inputs until a network is known: bytes stay bytes, of which there may be many."""
    if stored.is_floating_point:
        return torch.float32
    return stored if stored == torch.uint8 else torch.int64


def _check_shapes(splits: Mapping[str, StoredSplit], wrong: list[str]) -> None:
    shape = splits["train"].shape
    for key, split in splits.items():
        if split.shape != shape:
            wrong.append(f"an example of {key} has the shape {split.shape}, but an example of train has {shape}")


def _check_labels(splits: Mapping[str, StoredSplit], classes: int, wrong: list[str]) -> None:
    lowest = min(int(split.labels.min()) for split in splits.values())
    if lowest < 0:
        wrong.append(f"labels must be 0 or more (got {lowest})")
        return
    for key, split in splits.items():
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            bad = low if low < 0 else high
            wrong.append(f"{key} labels must be 0 … {classes - 1} for {classes} classes (got {bad})")
