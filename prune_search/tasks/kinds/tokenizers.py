"""From text to tokens: characters, bytes, or a Hugging Face tokenizer from a folder or file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from prune_search.recipe.problems import UserError, shown
from prune_search.tasks.kinds.packages import package, said
from prune_search.tasks.kinds.paths import local, wrong

KEY = "task.data.tokenizer"
CHARACTERS, BYTES = "characters", "bytes"
CHUNK = 1 << 16
Tokens = NDArray[numpy.int64]


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """What turns texts into tokens.

    Attributes:
        encode: from a text to its tokens, int64 [T], in 0 … size-1.
        size: the number of different tokens.
        end: the token between two documents; None: there is none.
        per_byte: whether every token is one byte of UTF-8, so that bits per token are bits per byte.
        raw: the tokenizer of the library, which encodes pairs and pads; None: it is ours.
    """

    encode: Callable[[str], Tokens]
    size: int
    end: int | None = None
    per_byte: bool = False
    raw: Any = None


def tokenizer_named(written: str, root: Path | None, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that a recipe names.

    Args:
        written: ``characters``, ``bytes``, a folder or file below `root`, or a name that transformers knows.
        root: the folder of --data-root, or None.
        texts: all of them, for ``characters``.

    Raises:
        UserError: it cannot be had.
    """
    if written == CHARACTERS:
        return of_characters(texts)
    if written == BYTES:
        return Tokenizer(lambda text: numpy.frombuffer(text.encode(), numpy.uint8).astype(numpy.int64), 256, None, True)
    return of_hugging_face(written, root)


def of_characters(texts: Iterable[str]) -> Tokenizer:
    """Every character that occurs is a token, numbered in the order of Unicode."""
    found = [numpy.unique(_codes(text)) for text in texts]
    known = numpy.unique(numpy.concatenate([numpy.zeros(0, numpy.uint32), *found]))

    def encode(text: str) -> Tokens:
        return numpy.searchsorted(known, _codes(text)).astype(numpy.int64)

    return Tokenizer(encode, len(known), per_byte=bool(len(known)) and int(known[-1]) < 128)


def _codes(text: str) -> NDArray[numpy.uint32]:
    return numpy.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def of_hugging_face(written: str, root: Path | None) -> Tokenizer:
    """A tokenizer of transformers from a folder or a GGUF file, or of tokenizers from a JSON file.

    Raises:
        UserError: it cannot be read.
    """
    path = local(written, root, KEY)
    try:
        if path is not None and path.is_file() and path.suffix == ".json":
            return _of_json(path)
        raw = _of_transformers(path, written)
    except UserError:
        raise
    except Exception as error:  # whatever the library raises of a file that is none
        raise wrong(KEY, f"{path or shown(written)} cannot be read as a tokenizer: {said(error)}") from error

    def encode(text: str) -> Tokens:
        return _joined(raw(list(_chunks(text)), add_special_tokens=False, verbose=False)["input_ids"] if text else [])

    return Tokenizer(encode, len(raw), raw.eos_token_id, raw=raw)


def _of_json(path: Path) -> Tokenizer:
    raw = package("tokenizers", "this tokenizer", KEY).Tokenizer.from_file(str(path))

    def encode(text: str) -> Tokens:
        return _joined([one.ids for one in raw.encode_batch(list(_chunks(text)), add_special_tokens=False)])

    return Tokenizer(encode, raw.get_vocab_size(with_added_tokens=True), raw=raw)


def _of_transformers(path: Path | None, written: str) -> Any:
    auto = package("transformers", "this tokenizer", KEY).AutoTokenizer
    # No code that a folder brings is run.
    if path is not None and path.is_file():
        given = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
        return auto.from_pretrained(str(path.parent), **given)
    return auto.from_pretrained(str(path or written), local_files_only=path is not None, trust_remote_code=False)


def _chunks(text: str) -> Iterator[str]:
    """A text in parts of whole lines, of about 64 Ki characters."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin + CHUNK) + 1 or len(text)
        yield text[begin:end]
        begin = end


def _joined(parts: Sequence[Sequence[int]]) -> Tokens:
    return numpy.concatenate([numpy.zeros(0, numpy.int64), *(numpy.asarray(part, numpy.int64) for part in parts)])
