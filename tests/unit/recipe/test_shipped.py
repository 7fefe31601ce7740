"""Shipped spaces are found by name, and by the path that their own first line has; nothing else is."""

from __future__ import annotations

import pytest

from prune_search.recipe.shipped import shipped_names, shipped_space


def test_each_is_found_by_its_name_and_as_its_command_writes_it() -> None:
    assert "quickstart" in shipped_names()
    assert list(shipped_names()) == sorted(shipped_names())
    for name in shipped_names():
        path = shipped_space(name)
        assert path is not None
        assert path.is_file()
        assert shipped_space(f"search_spaces/{name}.yaml") == shipped_space(f"{name}.yaml") == path


@pytest.mark.parametrize(
    "name", ["", "unknown", "../pyproject", "/etc/quickstart", "search_spaces/", "other/quickstart"]
)
def test_no_other_name_leads_to_a_file(name: str) -> None:
    assert shipped_space(name) is None
