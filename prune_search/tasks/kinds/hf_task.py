"""Makes a task of a Hugging Face data set: which examples, loss and metrics its columns ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prune_search.recipe.problems import UserError, shown
from prune_search.tasks.kinds import hf_rows
from prune_search.tasks.kinds.hf_rows import Columns, Encode, kind_of
from prune_search.tasks.kinds.hf_sources import Source, Wanted, load
from prune_search.tasks.kinds.look import Look
from prune_search.tasks.kinds.packages import package
from prune_search.tasks.kinds.parts import held_out
from prune_search.tasks.kinds.paths import files_digest, wrong
from prune_search.tasks.kinds.tokenizers import Tokenizer, of_hugging_face
from prune_search.tasks.task import Task


@dataclass(frozen=True)
class Reading:
    """What a recipe says of the examples.

    Attributes:
        columns: inputs and target.
        share: of the training rows that is held out where there is no validation split.
        tokenizer: of texts, as written, or None.
        length: tokens of an example.
        look: of images.
        workers: processes that read.
    """

    columns: Columns
    share: float
    tokenizer: str | None
    length: int
    look: Look
    workers: int


def task_of(wanted: Wanted, root: Path | None, reading: Reading) -> Task:
    """The task of a data set.

    Raises:
        UserError: everything that is wrong with it.
    """
    source = load(wanted, root)
    who = f"hf-dataset/{wanted.name}"
    hf_rows.check_columns(reading.columns, source.features, who)
    kinds = {kind_of(source.features[name]) for name in reading.columns.inputs}
    parts = dict(source.parts) if wanted.streaming else _held_out(source, reading)
    settings = (source.digest, reading.columns, reading.share, reading.tokenizer, reading.length, reading.look)
    digest = files_digest([], (*settings, wanted.streaming))
    if reading.columns.target is None:
        return _language(parts, kinds, root, reading, wanted.streaming, who, digest)
    return _labelled(parts, source, kinds, root, reading, wanted, digest)


def _held_out(source: Source, reading: Reading) -> dict[str, Any]:
    """The parts, a validation part held out of the training rows where there is none."""
    parts = dict(source.parts)
    if "validation" in parts:
        return parts
    rows = parts["train"]
    labels = torch.zeros(len(rows), dtype=torch.int64)
    target = reading.columns.target
    if target is not None and kind_of(source.features[target]) == "class":
        labels = torch.tensor(list(rows[target])).clamp_min(0)
    mine = held_out(labels, ("validation",), reading.share, "rows")
    return {**parts, **{part: rows.select(places.tolist()) for part, places in mine.items()}}


def _language(
    parts: Mapping[str, Any],
    kinds: set[str],
    root: Path | None,
    reading: Reading,
    streaming: bool,
    who: str,
    digest: str,
) -> Task:
    """Text that is predicted from itself."""
    if kinds != {"text"} or len(reading.columns.inputs) != 1:
        raise wrong("task.data.columns", f"{who}: without a target the inputs must be one column of text")
    tokenizer = _tokenizer(root, reading)
    (name,) = reading.columns.inputs
    end = [] if tokenizer.end is None else [tokenizer.end]

    def encode(row: Mapping[str, Any]) -> list[int]:
        return [*tokenizer.encode(row[name] or "").tolist(), *end]

    made: dict[str, Any] = {}
    for part, rows in parts.items():
        if streaming:
            made[part] = hf_rows.TokenStream(rows, encode, reading.length)
            continue
        blocks = hf_rows.in_blocks(rows.select_columns([name]), encode, reading.length)
        if not len(blocks):
            raise wrong("task.data.length", f"the {part} text of {who} has not one block of {reading.length} tokens")
        made[part] = (blocks, blocks)
    return _task(made, "causal-language-model", ("perplexity",), tokenizer.size, 0, digest if streaming else None)


def _labelled(
    parts: Mapping[str, Any],
    source: Source,
    kinds: set[str],
    root: Path | None,
    reading: Reading,
    wanted: Wanted,
    digest: str,
) -> Task:
    """Examples with a target."""
    target = hf_rows.target_of(reading.columns, source.features, None if wanted.streaming else parts["train"])
    encode = _encoding(kinds, source, root, reading, target.read, f"hf-dataset/{wanted.name}")
    kind = hf_rows.Stream if wanted.streaming else hf_rows.Rows
    made = {part: kind(rows.select_columns(_names(reading.columns)), encode(part)) for part, rows in parts.items()}
    loss, metrics = ("cross-entropy", ("accuracy",)) if target.classes else ("mse", ("rmse", "r2"))
    return _task(made, loss, metrics, target.outputs, 0 if wanted.streaming else reading.workers, digest)


def _names(columns: Columns) -> list[str]:
    return list(dict.fromkeys([*columns.inputs, *([] if columns.target is None else [columns.target])]))


def _encoding(
    kinds: set[str], source: Source, root: Path | None, reading: Reading, target: Callable[[Any], Any], who: str
) -> Callable[[str], Encode]:
    """From a part's name to what makes examples of its rows."""
    columns, look = reading.columns, reading.look
    if (kinds == {"text"} and len(columns.inputs) <= 2) or (kinds == {"words"} and len(columns.inputs) == 1):
        raw = _tokenizer(root, reading).raw
        if not callable(raw) or raw.pad_token_id is None:
            text = "needs a tokenizer of transformers with a token for padding, to make examples of one length"
            raise wrong("task.data.tokenizer", f"{who} {text}")
        words = kinds == {"words"}
        if words != (kind_of(source.features[columns.target or ""]) == "classes"):
            raise wrong("task.data.columns", f"{who}: lists of words go with lists of classes, one for each word")
        text_examples = hf_rows.TextExamples(raw, columns, reading.length, target, words)
        return lambda part: text_examples
    if kinds == {"image"} and len(columns.inputs) == 1:
        package("PIL.Image", who, "task.data")
        from prune_search.tasks.kinds import image_transforms

        if problems := look.problems():
            raise UserError(problems)
        coloured = partial(image_transforms.coloured, channels=look.channels)
        return lambda part: hf_rows.ImageExamples(
            columns, image_transforms.Transform(look, part == "train"), target, coloured
        )
    if kinds & {"text", "words", "image"}:
        raise wrong("task.data.columns", f"{who}: inputs of {', '.join(sorted(kinds))} cannot go together")
    whole = frozenset(name for name in columns.inputs if kind_of(source.features[name]) in ("whole", "wholes", "class"))
    number_examples = hf_rows.NumberExamples(columns, target, whole)
    return lambda part: number_examples


def _tokenizer(root: Path | None, reading: Reading) -> Tokenizer:
    if reading.tokenizer is None:
        names = ", ".join(map(shown, reading.columns.inputs))
        raise wrong("task.data.tokenizer", f"is missing: {names} holds text; name a Hugging Face tokenizer's folder")
    return of_hugging_face(reading.tokenizer, root)


def _task(
    parts: Mapping[str, Any],
    loss: str,
    metrics: tuple[str, ...],
    classes: int,
    workers: int,
    digest: str | None,
) -> Task:
    return Task(
        train=parts["train"],
        validation=parts["validation"],
        test=parts.get("test"),
        loss=loss,
        metrics=metrics,
        classes=classes,
        workers=workers,
        digest=digest,
        name="hf-dataset",
    )
