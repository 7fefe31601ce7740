"""Contents in parts are those in one piece."""

from __future__ import annotations

from pathlib import Path

from prune_search.storage.content import joined
from prune_search.storage.files import put_folder


def test_parts_are_written_one_after_another(tmp_path: Path) -> None:
    parts: list[bytes | memoryview] = [b"one ", memoryview(b"two "), b""]
    put_folder(tmp_path / "made", {"a": parts, "b": b"three"}, lambda there: True)
    assert (tmp_path / "made" / "a").read_bytes() == joined(parts) == b"one two "
    assert joined(b"three") == (tmp_path / "made" / "b").read_bytes()
