"""Sizes as people write and read them."""

from __future__ import annotations

import pytest

from prune_search.recipe.problems import UserError
from prune_search.storage.sizes import read_size, shown_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("1.5 TiB", 3 * 2**39), ("500mb", 5 * 10**8), ("7", 7), ("0", 0), (" 1kB ", 1000)],
)
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "20 G B", "20XB", "nan", "1.2.3GB", "9" * 99])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="--budget: must be a size such as 20GB"):
        read_size(text)


def test_sizes_are_shown() -> None:
    assert [shown_size(size) for size in (0, 999, 1500, 2.5e9, 3e15)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 GB",
        "3000.0 TB",
    ]
