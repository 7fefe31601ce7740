"""From the columns of a table to the inputs of a network and its targets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.tasks.kinds.parts import held_out, missing_parts
from prune_search.tasks.kinds.paths import few, wrong
from prune_search.tasks.kinds.table_files import Column, Numbers

Columns = Mapping[str, Column]
# Whole numbers of so few different values are classes, where a recipe does not say.
MAX_NUMBERED_CLASSES = 20
MAX_TEXTS = 1000
_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class Reading:
    """What of a table is used, and how.

    Attributes:
        target: the column to predict.
        task: ``classification`` or ``regression``; None: as the target's values show.
        drop: columns that are left out.
        missing: ``refuse``, or ``mean`` where empty cells become the training part's mean, and of texts no category.
        categories: ``one-hot`` or ``codes``.
        scale_target: whether numbers to predict are standardised too.
    """

    target: str
    task: str | None = None
    drop: tuple[str, ...] = ()
    missing: str = "refuse"
    categories: str = "one-hot"
    scale_target: bool = False


@dataclass(frozen=True, eq=False)
class Encoded:
    """A table as arrays.

    Attributes:
        parts: inputs float32 [N, F] and targets (int64 [N], or float32 [N, 1]) by part.
        classes: the classes in order; empty where numbers are predicted.
        features: what each of the F inputs is.
    """

    parts: Mapping[str, tuple[Tensor, Tensor]]
    classes: tuple[str, ...]
    features: tuple[str, ...]


def encoded(files: Mapping[str, tuple[Path, Columns]], reading: Reading, share: float) -> Encoded:
    """The parts of a table, those that have no file held out of the training rows.

    A validation part is always there afterwards; a test part is held out only where there is one file.

    Args:
        files: the path and the columns of ``train`` and perhaps ``validation`` and ``test``.
        reading: what is used, and how.
        share: of the training rows, for each part that is held out; stratified by class, the same for all trials.

    Raises:
        UserError: everything that is wrong with the columns.
    """
    train = files["train"][1]
    problems: list[Problem] = []
    names = _features(train, files["train"][0], reading, problems)
    for part, (path, columns) in files.items():
        _check_columns(part, path, columns, train, [*names, reading.target], reading, problems)
    if problems:
        raise UserError(problems)
    labels, classes = _classes(files, reading, problems)
    if problems:
        raise UserError(problems)
    rows = _split({part: len(values) for part, values in labels.items()}, labels["train"] if classes else None, share)
    used = {part: files[part if part in files else "train"][1] for part in rows}
    inputs, features = _inputs(names, used, rows, reading)
    targets = {part: labels[part if part in files else "train"][index] for part, index in rows.items()}
    if not classes:
        targets = _numbers(targets, reading)
    return Encoded({part: (inputs[part], torch.from_numpy(targets[part])) for part in rows}, classes, features)


def _features(train: Columns, path: Path, reading: Reading, problems: list[Problem]) -> list[str]:
    """The columns that become inputs."""
    for key, name in (("target", reading.target), *(("drop", name) for name in reading.drop)):
        if name not in train:
            text = f"{path} has no column {shown(name)}{suggestion(name, train)}; it has {few(train, 20)}"
            problems += wrong(f"task.data.{key}", text).problems
    names = [name for name in train if name != reading.target and name not in reading.drop]
    if not names:
        problems += wrong("task.data.file", f"{path} has no column besides the target to predict from").problems
    return names


def _check_columns(
    part: str,
    path: Path,
    columns: Columns,
    train: Columns,
    names: Sequence[str],
    reading: Reading,
    problems: list[Problem],
) -> None:
    key = "task.data." + ("file" if part == "train" else part)
    for name in names:
        column = columns.get(name)
        if name not in train:
            continue
        if column is None:
            problems += wrong(key, f"{path} has no column {shown(name)}, which the training file has").problems
            continue
        where = f"{path}: column {shown(name)}"
        if (column.numbers is None) != (train[name].numbers is None):
            has, wanted = ("texts", "numbers") if column.numbers is None else ("numbers", "texts")
            example = f" such as {shown(column.texts[0])}" if column.texts else ""
            problems += wrong(key, f"{where} holds {has}{example}, but {wanted} in the training file").problems
            continue
        gone = numpy.flatnonzero(column.missing)
        if gone.size == len(column):
            problems += wrong(key, f"{where} is empty: leave it out with drop").problems
        elif gone.size and (reading.missing == "refuse" or name == reading.target):
            how = "" if name == reading.target else " (missing: mean fills them)"
            text = f"{where} is empty in {gone.size} of {len(column)} rows, the first of them row {gone[0] + 1}{how}"
            problems += wrong(key, text).problems
        many = len(column.texts) > MAX_TEXTS and part == "train" and name != reading.target
        if many and reading.categories == "one-hot":
            text = (
                f"{where} has {len(column.texts)} different texts: leave it out with drop, or write categories: codes"
            )
            problems += wrong(key, text).problems


def _classes(
    files: Mapping[str, tuple[Path, Columns]], reading: Reading, problems: list[Problem]
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The target of every file's rows: class numbers (int64) and the classes, or numbers (float64) and none."""
    columns = {part: columns[reading.target] for part, (_, columns) in files.items()}
    train = columns["train"]
    if not _is_classification(train, reading):
        if train.numbers is None:
            text = f"column {shown(reading.target)} holds texts such as {shown(train.texts[0])}, which are not numbers"
            problems += wrong("task.data.task", text).problems
            return {}, ()
        return {part: _known(column.numbers) for part, column in columns.items()}, ()
    values = train.texts if train.numbers is None else tuple(_written(value) for value in numpy.unique(train.numbers))
    numbered = {value: place for place, value in enumerate(values)}
    labels = {}
    for part, column in columns.items():
        texts = (
            [column.texts[code] for code in _known(column.codes)]
            if column.numbers is None
            else list(map(_written, column.numbers))
        )
        unknown = sorted(set(texts) - set(values))
        if unknown:
            text = f"{files[part][0]}: the training file has no class {few(map(shown, unknown))}"
            problems += wrong(f"task.data.{part}", text).problems
            continue
        labels[part] = numpy.array([numbered[text] for text in texts], numpy.int64)
    if len(values) < 2:
        text = f"column {shown(reading.target)} has one class only, {shown(values[0])}: there is nothing to predict"
        problems += wrong("task.data.target", text).problems
    return labels, values


def _known(values: NDArray[Any] | None) -> NDArray[Any]:
    if values is None:
        raise TypeError("a column holds numbers or texts")
    return values


def _is_classification(target: Column, reading: Reading) -> bool:
    """Whether the target holds classes; what is taken from its values is said."""
    if reading.task is not None:
        return reading.task == "classification"
    if target.numbers is None:
        return True
    values = numpy.unique(target.numbers)
    few_whole = len(values) <= MAX_NUMBERED_CLASSES and bool((values == numpy.round(values)).all())
    kind = "classes" if few_whole else "a number to predict"
    word = "classification" if few_whole else "regression"
    text = "table: column %s is treated as %s, because it holds %d different numbers%s; write task: %s to confirm"
    _log.warning(text, shown(reading.target), kind, len(values), ", all of them whole" if few_whole else "", word)
    return few_whole


def _written(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


def _split(sizes: Mapping[str, int], labels: NDArray[Any] | None, share: float) -> dict[str, NDArray[Any]]:
    """The rows of every part, as indices into its file."""
    rows = {part: numpy.arange(size) for part, size in sizes.items()}
    kinds = torch.zeros(sizes["train"], dtype=torch.int64) if labels is None else torch.from_numpy(labels)
    drawn = held_out(kinds, missing_parts(sizes), share, "rows")
    rows.update({part: mine.numpy() for part, mine in drawn.items()})
    return {part: rows[part] for part in ("train", "validation", "test") if part in rows}


def _inputs(
    names: Sequence[str], columns: Mapping[str, Columns], rows: Mapping[str, NDArray[Any]], reading: Reading
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Inputs float32 [N, F] by part, and what each is."""
    made: dict[str, list[NDArray[numpy.float32]]] = {part: [] for part in rows}
    features: list[str] = []
    for name in names:
        first = columns["train"][name]
        if first.numbers is not None:
            features.append(name)
            encode = _standardised(name, first.numbers[rows["train"]])
        else:
            hot = reading.categories == "one-hot"
            features += [f"{name}={text}" for text in first.texts] if hot else [name]
            encode = None
        for part, index in rows.items():
            column = columns[part][name]
            if encode is not None:
                made[part].append(encode(_known(column.numbers)[index]))
            else:
                made[part].append(_categories(column, first.texts, reading.categories == "one-hot")[index])
    return {part: torch.from_numpy(numpy.concatenate(made[part], axis=1)) for part in rows}, tuple(features)


def _standardised(name: str, train: Numbers) -> Callable[[Numbers], NDArray[numpy.float32]]:
    """From numbers [N] to float32 [N, 1]: less the training part's mean, over its deviation; 0 where nothing stands."""
    known = train[~numpy.isnan(train)]
    mean, deviation = (float(known.mean()), float(known.std())) if known.size else (0.0, 0.0)
    if not deviation > 1e-12 * max(1.0, abs(mean)):
        _log.warning("table: column %s is the same in all training rows: it becomes 0", shown(name))
        return lambda values: numpy.zeros((len(values), 1), numpy.float32)
    return lambda values: numpy.nan_to_num((values - mean) / deviation).astype(numpy.float32)[:, None]


def _categories(column: Column, texts: Sequence[str], hot: bool) -> NDArray[numpy.float32]:
    """Float32 [N, categories], one of them 1; or [N, 1], the number from 1; 0 for what the training file lacks."""
    numbered = {text: place for place, text in enumerate(texts)}
    own = numpy.array([*(numbered.get(text, -1) for text in column.texts), -1], numpy.int64)
    codes = own[_known(column.codes)]
    kinds = numpy.equal(codes[:, None], numpy.arange(len(texts))[None]) if hot else codes[:, None] + 1
    made: NDArray[numpy.float32] = kinds.astype(numpy.float32)
    return made


def _numbers(targets: Mapping[str, Numbers], reading: Reading) -> dict[str, NDArray[Any]]:
    """Numbers to predict, float32 [N, 1]."""
    mean, deviation = targets["train"].mean(), targets["train"].std()
    if not deviation > 0:
        raise wrong("task.data.target", f"column {shown(reading.target)} is the same in all training rows")
    if reading.scale_target:
        targets = {part: (values - mean) / deviation for part, values in targets.items()}
    return {part: values.astype(numpy.float32)[:, None] for part, values in targets.items()}
