"""Text files for language models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.fields import Integer, ListOf, Number, Text
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.tasks.task import Task


@DATASETS.register(
    "text",
    summary="UTF-8 files as blocks of tokens, each predicted from those before it; characters, bytes or a tokenizer",
    options={
        "files": Option(ListOf(Text(), 1), doc="files or patterns such as books/*.txt, below --data-root"),
        "validation": Option(ListOf(Text(), 1), None, "files of the validation text"),
        "test": Option(ListOf(Text(), 1), None, "files of the test text"),
        "split": Option(Number(0.0, 1.0, above=True, below=True), 0.1, "share cut off its end for each missing part"),
        "tokenizer": Option(
            Text(), "characters", "characters, bytes, or a Hugging Face tokenizer: a folder, a .json or a .gguf file"
        ),
        "length": Option(Integer(2, 1_000_000), 256, "tokens per example"),
    },
)
def text(
    root: Path | None,
    *,
    files: Sequence[str],
    split: float,
    tokenizer: str,
    length: int,
    validation: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
) -> Task:
    """Text as a task: int64 [L] tokens, which are the targets too, since the loss compares each with what came before.

    Args:
        root: the folder of --data-root, which files are relative to.
        files: of the training text.
        split: share of the training text that is cut off at its end for validation where that has no files, and for the
            test where neither has any.
        tokenizer: ``characters``, ``bytes``, or a folder or file.
        length: L. Blocks do not overlap; what is left over at the end of a part is left out.
        validation: files of the validation text.
        test: files of the test text.

    Raises:
        UserError: everything that is wrong with the files.
    """
    from prune_search.recipe.problems import Problem, UserError
    from prune_search.tasks.kinds.text import check_tokens, divided, in_blocks, read_texts, tokens_of
    from prune_search.tasks.kinds.tokenizers import tokenizer_named
    from prune_search.tasks.task import Task

    texts: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for part, key, patterns in (
        ("train", "files", files),
        ("validation",) * 2 + (validation,),
        ("test",) * 2 + (test,),
    ):
        if patterns is not None:
            try:
                texts[part] = read_texts(root, patterns, f"task.data.{key}")
            except UserError as error:
                problems += error.problems
    if problems:
        raise UserError(problems)
    named = tokenizer_named(tokenizer, root, (one for part in texts.values() for one in part))
    parts = divided({part: tokens_of(found, named) for part, found in texts.items()}, split, length)
    check_tokens(parts, named.size, tokenizer)
    made, digest = in_blocks(parts, length, named.size)
    return Task(
        train=made["train"],
        validation=made["validation"],
        test=made.get("test"),
        loss="causal-language-model",
        metrics=("perplexity", "bits-per-byte") if named.per_byte else ("perplexity",),
        digest=digest,
        classes=named.size,
        name="text",
    )
