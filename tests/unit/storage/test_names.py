"""Names that stay where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.storage.names import safe_child, vertex_folder
from prune_search.storage.places import place_of


@pytest.mark.parametrize("name", ["a", "012-lottery-ticket-s0.90", "step-000000001", "A_b.C", "x" * 128, "a..b"])
def test_a_plain_name_is_a_child(name: str, tmp_path: Path) -> None:
    assert safe_child(tmp_path, name) == tmp_path / name
    assert safe_child(tmp_path, name).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "a b", "x" * 129, "a\x00", "é"])
def test_any_other_name_is_refused_wherever_it_would_lie(name: str, tmp_path: Path) -> None:
    for root in (tmp_path, place_of("s3://bucket/store")):
        with pytest.raises(UserError, match="is not allowed"):
            safe_child(root, name)


def test_the_states_of_a_segment_lie_below_the_beginning_of_its_address(tmp_path: Path) -> None:
    address = "ab" + "0" * 62
    assert vertex_folder(tmp_path, address) == tmp_path / "vertices" / "ab" / address
    assert str(vertex_folder(place_of("s3://bucket/store"), address)) == f"s3://bucket/store/vertices/ab/{address}"
