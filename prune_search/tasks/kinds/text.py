"""Text files as blocks of tokens, of which each is predicted from those before it."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import Dataset

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.tasks.digest import ordered_tensors_digest
from prune_search.tasks.kinds.paths import below_root, unreadable, wrong
from prune_search.tasks.kinds.tokenizers import Tokenizer, Tokens

# Up to so many tokens a part is one array, int64 of 1 GiB; beyond they are held in as few bytes as they need.
MAX_IN_ARRAY = 2**27
PARTS = ("train", "validation", "test")


class Blocks(Dataset[tuple[Tensor, Tensor]]):
    """Blocks of tokens that are held in as few bytes as they need: (int64 [L], the same).

    Args:
        tokens: of a part, in order.
        length: L; what is left over at the end is left out.
        size: the number of different tokens.
    """

    def __init__(self, tokens: Tokens, length: int, size: int) -> None:
        narrow: Any = numpy.uint8 if size <= 2**8 else numpy.uint16 if size <= 2**16 else numpy.int32
        self.blocks = tokens[: len(tokens) // length * length].astype(narrow).reshape(-1, length)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        block = torch.from_numpy(self.blocks[index].astype(numpy.int64))
        return block, block


def read_texts(root: Path | None, patterns: Sequence[str], key: str) -> list[str]:
    """The texts of files, in the order of their names within each pattern.

    Args:
        root: the folder of --data-root, or None.
        patterns: files, or patterns such as ``books/*.txt``.
        key: where they are written, for messages.

    Raises:
        UserError: with every file that is missing, empty, or not UTF-8.
    """
    texts: list[str] = []
    problems: list[Problem] = []
    for pattern in patterns:
        try:
            texts += [_text(path, key) for path in _matching(root, pattern, key)]
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return texts


def _matching(root: Path | None, pattern: str, key: str) -> list[Path]:
    if not glob.has_magic(pattern):
        return [below_root(root, pattern, key)]
    base = Path(pattern).expanduser()
    if not base.is_absolute():
        base = below_root(root, ".", key) / base
    files = [Path(name) for name in sorted(glob.glob(str(base), recursive=True)) if Path(name).is_file()]
    if not files:
        raise wrong(key, f"no file matches {base}")
    return files


def _text(path: Path, key: str) -> str:
    if path.is_dir():
        raise wrong(key, f"{path} is a folder: write {path.name}/*.txt for the files in it")
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error, key) from error
    except UnicodeDecodeError as error:
        raise wrong(key, f"{path} is not UTF-8: byte {error.start} is {content[error.start]:#04x}") from error
    if not text:
        raise wrong(key, f"{path} is empty")
    return text


def tokens_of(texts: Sequence[str], tokenizer: Tokenizer) -> Tokens:
    """The tokens of texts, one after another, with the token for an end after each where there is one."""
    end = [] if tokenizer.end is None else [numpy.array([tokenizer.end], numpy.int64)]
    parts = [part for text in texts for part in (tokenizer.encode(text), *end)]
    return numpy.concatenate([numpy.zeros(0, numpy.int64), *parts])


def divided(tokens: Mapping[str, Tokens], share: float, length: int) -> dict[str, Tokens]:
    """The three parts; those without files of their own are the end of the training text.

    A validation part is always there afterwards; a test part is cut off only where there are training files only.

    Args:
        tokens: of ``train`` and perhaps ``validation`` and ``test``.
        share: of the training tokens, for each part that is cut off.
        length: of a block, in tokens.

    Raises:
        UserError: a part has not a single block.
    """
    parts = dict(tokens)
    whole = parts["train"]
    missing = [
        part for part in ("validation", "test") if part not in parts and (part == "validation" or len(parts) == 1)
    ]
    count = int(share * len(whole))
    begin = len(whole) - count * len(missing)
    parts["train"] = whole[:begin]
    for place, part in enumerate(missing):
        parts[part] = whole[begin + place * count : begin + (place + 1) * count]
    problems = [
        Problem("task.data.length", f"the {part} text has {len(parts[part])} tokens, fewer than one block of {length}")
        for part in PARTS
        if part in parts and len(parts[part]) < length
    ]
    if problems:
        raise UserError(problems)
    return {part: parts[part] for part in PARTS if part in parts}


def check_tokens(parts: Mapping[str, Tokens], size: int, tokenizer: str) -> None:
    """Refuse tokens that the tokenizer says it does not have."""
    worst = max(int(tokens.max(initial=0)) for tokens in parts.values())
    if worst >= size:
        raise wrong("task.data.tokenizer", f"{shown(tokenizer)} has {size} tokens, but produces the token {worst}")


def in_blocks(parts: Mapping[str, Tokens], length: int, size: int) -> tuple[dict[str, Any], str | None]:
    """The parts as arrays [N, L] that are inputs and targets at once, or as data sets where they are large.

    Returns:
        By part, and the digest of the tokens where they are no arrays.
    """
    if sum(map(len, parts.values())) <= MAX_IN_ARRAY:
        blocks = {
            part: torch.from_numpy(tokens[: len(tokens) // length * length]).reshape(-1, length)
            for part, tokens in parts.items()
        }
        return {part: (tensor, tensor) for part, tensor in blocks.items()}, None
    sets = {part: Blocks(tokens, length, size) for part, tokens in parts.items()}
    return dict(sets), ordered_tensors_digest((part, torch.from_numpy(made.blocks)) for part, made in sets.items())
