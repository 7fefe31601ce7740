"""From the rows of a Hugging Face data set to the examples of a task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from prune_search.recipe.problems import shown, suggestion
from prune_search.tasks.kinds.paths import few, wrong
from prune_search.tasks.shapes import IGNORED

KEY = "task.data.columns"
Row = Mapping[str, Any]
Encode = Callable[[Row], Any]


@dataclass(frozen=True)
class Columns:
    """Which columns are used.

    Attributes:
        inputs: names of the inputs.
        target: name of the target; None: there is none, and text is predicted from itself.
    """

    inputs: tuple[str, ...]
    target: str | None = None


def check_columns(columns: Columns, features: Mapping[str, Any], who: str) -> None:
    """Refuse columns that a data set does not have.

    Raises:
        UserError: with every one.
    """
    names = [*columns.inputs, *([] if columns.target is None else [columns.target])]
    unknown = [name for name in names if name not in features]
    if unknown:
        lines = [f"{who} has no column {shown(name)}{suggestion(name, features)}" for name in unknown]
        raise wrong(KEY, *(f"{line}; it has {few(features, 20)}" for line in lines))


def kind_of(feature: Any) -> str:
    """What a column holds, in a word; lists of texts, whole numbers and classes are words, wholes and classes."""
    name = type(feature).__name__
    if name == "ClassLabel":
        return "class"
    if name == "Image":
        return "image"
    if name == "Value":
        kind = str(feature.dtype)
        return "text" if "string" in kind else "whole" if "int" in kind or kind == "bool" else "number"
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) else None)
    below = kind_of(inner) if inner is not None else ""
    return {"text": "words", "class": "classes", "whole": "wholes"}.get(below, "array")


class Rows(Dataset[Any]):
    """The rows of a data set that is read by index, encoded when they are asked for.

    Args:
        source: of the library.
        encode: from a row to an example.
    """

    def __init__(self, source: Any, encode: Encode) -> None:
        self.source, self.encode = source, encode

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self.encode(self.source[int(index)])


class Stream(IterableDataset[Any]):
    """The rows of a stream, encoded; its state is that of the library.

    Args:
        source: of the library.
        encode: from a row to an example.
    """

    def __init__(self, source: Any, encode: Encode) -> None:
        self.source, self.encode = source, encode

    def __iter__(self) -> Iterator[Any]:
        for row in self.source:
            yield self.encode(row)

    def set_epoch(self, epoch: int) -> None:
        """Which pass comes next: the library goes on from a loaded state in the pass of that state only."""
        self.source.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        return {"source": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.source.load_state_dict(copy.deepcopy(state["source"]))


class TokenStream(IterableDataset[tuple[Tensor, Tensor]]):
    """The texts of a stream one after another, in blocks: (int64 [L], the same).

    Args:
        source: of the library.
        encode: from a row to its tokens.
        length: L.
    """

    def __init__(self, source: Any, encode: Callable[[Row], Sequence[int]], length: int) -> None:
        self.source, self.encode, self.length = source, encode, length
        self.left: list[int] = []
        self.resumed = False

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # What was left over at the end of a pass is not carried into the next.
        self.left, self.resumed = (self.left if self.resumed else []), False
        yield from self._blocks()
        for row in self.source:
            self.left += self.encode(row)
            yield from self._blocks()

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        while len(self.left) >= self.length:
            block = torch.tensor(self.left[: self.length])
            self.left = self.left[self.length :]
            yield block, block

    def set_epoch(self, epoch: int) -> None:
        """Which pass comes next: the library goes on from a loaded state in the pass of that state only."""
        self.source.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where it is: the library's state after the last row, and the tokens of it that are left."""
        return {"source": self.source.state_dict(), "left": list(self.left)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.source.load_state_dict(copy.deepcopy(state["source"]))
        self.left, self.resumed = list(state["left"]), True


@dataclass(frozen=True)
class Target:
    """How a target is read.

    Attributes:
        read: from what stands in a row to the target of an example.
        outputs: the number of classes, or of numbers to predict.
        classes: whether there are classes.
    """

    read: Callable[[Any], Any]
    outputs: int
    classes: bool = True


def target_of(columns: Columns, features: Mapping[str, Any], rows: Any) -> Target:
    """How a target is read.

    Args:
        columns: with a target.
        features: of the data set.
        rows: of the training part; None of a stream, whose values are not known beforehand.

    Raises:
        UserError: the target is of a kind that none of the losses takes.
    """
    name = columns.target or ""
    kind = kind_of(features[name])
    if kind in ("class", "classes"):
        inner = features[name] if kind == "class" else getattr(features[name], "feature", None) or features[name][0]
        return Target(_unchanged, int(inner.num_classes))
    if kind in ("number", "array"):
        width = 1 if kind == "number" or rows is None else len(_as_numbers(rows[0][name]))
        return Target(_as_numbers, width, classes=False)
    if kind not in ("whole", "text") or rows is None:
        text = f"the target {shown(name)} holds {kind}" + (" of a stream" if rows is None else "")
        raise wrong(KEY, f"{text}: cast it to ClassLabel, which says how many classes there are")
    values = sorted(set(rows[name]))
    if None in values:
        raise wrong(KEY, f"the target {shown(name)} is empty in some rows")
    if kind == "whole":
        if values[0] < 0:
            raise wrong(KEY, f"the target {shown(name)} must be 0 or more (got {values[0]})")
        return Target(int, int(values[-1]) + 1)
    numbered = {value: place for place, value in enumerate(values)}
    return Target(partial(_class_of, numbered=numbered, name=name), len(values))


def _unchanged(value: Any) -> Any:
    return value


def _as_numbers(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32).reshape(-1)


def _class_of(value: str, numbered: Mapping[str, int], name: str) -> int:
    if value not in numbered:
        raise wrong(KEY, f"the training part has no class {shown(value)} in {shown(name)}")
    return numbered[value]


@dataclass(frozen=True, eq=False)
class TextExamples:
    """A row of text as a mapping: what the tokenizer makes of it, padded to a length, and ``labels``.

    Attributes:
        tokenizer: of transformers.
        columns: one text or two that belong together, or one list of words with a class each.
        length: in tokens; longer texts are cut.
        target: how the target is read.
        words: whether the input is a list of words with a class each.
    """

    tokenizer: Any
    columns: Columns
    length: int
    target: Callable[[Any], Any]
    words: bool = False

    def __call__(self, row: Row) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and what else the tokenizer makes, int64 [L], and ``labels``."""
        texts = [row[name] for name in self.columns.inputs]
        made = self.tokenizer(
            *texts,
            padding="max_length",
            truncation=True,
            max_length=self.length,
            is_split_into_words=self.words,
        )
        example = {name: torch.tensor(values, dtype=torch.int64) for name, values in made.items()}
        labels = self.target(row[self.columns.target or ""])
        if self.words:
            # The first token of a word has its class; the others, and what is padded, count for nothing.
            given, before = [], None
            for number in made.word_ids():
                given.append(IGNORED if number is None or number == before else labels[number])
                before = number
            labels = given
        example["labels"] = torch.as_tensor(labels)
        return example


@dataclass(frozen=True, eq=False)
class ImageExamples:
    """A row with an image as (float32 [C, H, W], target).

    Attributes:
        columns: one image.
        transform: from an image to a tensor.
        target: how the target is read.
        coloured: from an image to one in the channels that are asked for.
    """

    columns: Columns
    transform: Callable[[Any], Tensor]
    target: Callable[[Any], Any]
    coloured: Callable[[Any], Any]

    def __call__(self, row: Row) -> tuple[Tensor, Any]:
        """An image and its target."""
        image = self.coloured(row[self.columns.inputs[0]])
        return self.transform(image), self.target(row[self.columns.target or ""])


@dataclass(frozen=True, eq=False)
class NumberExamples:
    """A row of numbers as (float32 or int64 […], target); of several columns as a mapping with ``labels``.

    Attributes:
        columns: of numbers or arrays.
        target: how the target is read.
        whole: the columns that hold whole numbers, which stay integers.
    """

    columns: Columns
    target: Callable[[Any], Any]
    whole: frozenset[str]

    def __call__(self, row: Row) -> Any:
        """An example."""
        label = self.target(row[self.columns.target or ""])
        made = {name: self._tensor(name, row[name]) for name in self.columns.inputs}
        return {**made, "labels": label} if len(made) > 1 else (next(iter(made.values())), label)

    def _tensor(self, name: str, value: Any) -> Tensor:
        if value is None:
            raise wrong(KEY, f"the column {shown(name)} is empty in some rows")
        tensor = torch.as_tensor(value, dtype=torch.int64 if name in self.whole else torch.float32)
        return tensor if tensor.dim() else tensor.reshape(1)


def in_blocks(rows: Iterable[Row], encode: Callable[[Row], Sequence[int]], length: int) -> Tensor:
    """The texts of rows one after another, in blocks: int64 [N, L]; what is left over at the end is left out."""
    parts = [numpy.asarray(encode(row), numpy.int64) for row in rows]
    tokens = numpy.concatenate([numpy.zeros(0, numpy.int64), *parts])
    return torch.from_numpy(tokens[: len(tokens) // length * length]).reshape(-1, length)
