"""The reason of an error, on one line."""

from __future__ import annotations

from prune_search.storage.errors import StorageError, one_line


def test_the_systems_own_word_goes_before_the_text_and_a_kind_stands_for_no_text() -> None:
    assert one_line(OSError(28, "No space left on device", "/store/x")) == "No space left on device"
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(StorageError("x" * 1000))) == 200
