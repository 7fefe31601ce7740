"""Text files as blocks of tokens."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.tasks.kinds import text
from prune_search.tasks.kinds.tokenizers import of_characters, tokenizer_named


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / "books" / name).write_text(name, encoding="utf-8")
    assert text.read_texts(tmp_path, ["books/c.md", "books/*.txt"], "k") == ["c.md", "a.txt", "b.txt"]
    assert text.read_texts(None, [f"{tmp_path}/**/a.txt"], "k") == ["a.txt"]


def test_everything_that_is_wrong_with_files_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(b"ab\xffc")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as caught:
        text.read_texts(tmp_path, ["odd.txt", "empty.txt", "folder", "lost/no.txt", "*.md"], "task.data.files")
    assert [str(problem).replace(str(tmp_path), "") for problem in caught.value.problems] == [
        "task.data.files: /odd.txt is not UTF-8: byte 2 is 0xff",
        "task.data.files: /empty.txt is empty",
        "task.data.files: /folder is a folder: write folder/*.txt for the files in it",
        "task.data.files: there is no /lost/no.txt",
        "task.data.files: no file matches /*.md",
    ]
    with pytest.raises(UserError, match=r"relative to a folder that is not given"):
        text.read_texts(None, ["*.md"], "k")


def test_missing_parts_are_cut_off_at_the_end_and_all_have_a_block() -> None:
    tokens = numpy.arange(100)
    parts = text.divided({"train": tokens}, 0.1, 5)
    assert {part: (int(cut[0]), len(cut)) for part, cut in parts.items()} == {
        "train": (0, 80),
        "validation": (80, 10),
        "test": (90, 10),
    }
    assert {part: len(cut) for part, cut in text.divided({"train": tokens, "test": tokens}, 0.1, 5).items()} == {
        "train": 90,
        "validation": 10,
        "test": 100,
    }
    assert set(text.divided({"train": tokens, "validation": tokens}, 0.1, 5)) == {"train", "validation"}
    with pytest.raises(UserError) as caught:
        text.divided({"train": tokens}, 0.1, 11)
    assert [str(problem) for problem in caught.value.problems] == [
        "task.data.length: the validation text has 10 tokens, fewer than one block of 11",
        "task.data.length: the test text has 10 tokens, fewer than one block of 11",
    ]


def test_blocks_are_arrays_and_of_large_texts_a_data_set_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"train": numpy.arange(300) % 256, "validation": numpy.arange(20)}
    arrays, digest = text.in_blocks(parts, 7, 256)
    assert digest is None
    assert arrays["train"][0].shape == (42, 7)
    monkeypatch.setattr(text, "MAX_IN_ARRAY", 100)
    sets, digest = text.in_blocks(parts, 7, 256)
    assert sets["train"].blocks.dtype == numpy.uint8
    for part, (inputs, targets) in arrays.items():
        assert torch.equal(inputs, targets)
        assert torch.equal(torch.stack([sets[part][index][0] for index in range(len(sets[part]))]), inputs)
    assert digest != text.in_blocks({**parts, "train": parts["train"] + 0 * 1}, 6, 256)[1]


def test_the_end_of_a_text_is_a_token_where_the_tokenizer_has_one() -> None:
    ours = of_characters(["ab"])
    assert text.tokens_of(["ab", "b"], ours).tolist() == [0, 1, 1]
    with_end = type(ours)(ours.encode, 3, end=2)
    assert text.tokens_of(["ab", "b"], with_end).tolist() == [0, 1, 2, 1, 2]
    with pytest.raises(UserError, match=r"'characters' has 2 tokens, but produces the token 5"):
        text.check_tokens({"train": numpy.array([0, 5])}, 2, "characters")
    assert tokenizer_named("bytes", None, ()).size == 256
