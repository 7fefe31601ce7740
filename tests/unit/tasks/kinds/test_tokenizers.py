"""From text to tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds import tokenizers
from prune_search.tasks.kinds.tokenizers import Tokenizer, tokenizer_named

WORDS = {"[UNK]": 0, "the": 1, "cat": 2, "sat": 3, "[EOS]": 4}


def word_file(folder: Path) -> Path:
    """A tokenizer of five words, as the library tokenizers stores it."""
    library = pytest.importorskip("tokenizers", reason="reads Hugging Face tokenizers")
    made = library.Tokenizer(library.models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def word_folder(folder: Path) -> Path:
    """The same as a folder of transformers, with a token for the end."""
    word_file(folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_characters_are_numbered_in_order_and_bytes_by_their_value() -> None:
    of = tokenizer_named("characters", None, ["bca", "é"])
    assert (of.encode("abcé").tolist(), of.size, of.per_byte) == ([0, 1, 2, 3], 4, False)
    assert tokenizer_named("characters", None, ["b\n"]).per_byte
    of = tokenizer_named("bytes", None, [])
    assert (of.encode("aé").tolist(), of.size, of.per_byte) == ([97, 195, 169], 256, True)


def test_a_file_of_the_library_tokenizers_is_read_below_the_root(tmp_path: Path) -> None:
    word_file(tmp_path / "words")
    of = tokenizer_named("words/tokenizer.json", tmp_path, [])
    assert (of.encode("the cat\nran").tolist(), of.size, of.end) == ([1, 2, 0], 5, None)


@pytest.mark.slow
def test_a_folder_of_transformers_is_read_and_long_texts_in_parts_of_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="reads tokenizers from folders")
    word_folder(tmp_path / "words")
    of: Tokenizer = tokenizer_named("words", tmp_path, [])
    assert (of.encode("the cat").tolist(), of.encode("").tolist(), of.size, of.end) == ([1, 2], [], 5, 4)
    monkeypatch.setattr(tokenizers, "CHUNK", 4)
    assert of.encode("the cat sat\nthe\ncat").tolist() == [1, 2, 3, 1, 2]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"task.data.tokenizer: .*nothing cannot be read as a tokenizer: \w+"):
        tokenizer_named("nothing", tmp_path, [])


def test_a_file_that_is_no_tokenizer_is_said(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="reads Hugging Face tokenizers")
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(UserError, match=r"task.data.tokenizer: .*odd.json cannot be read as a tokenizer: Exception"):
        tokenizer_named("odd.json", tmp_path, [])
