"""Looking into plain data: what stands at a key, and what it is."""

from __future__ import annotations

import pytest

from prune_search.recipe.axes import GRANULARITIES
from prune_search.recipe.plain import at_key, known_as, named_at, step_at
from prune_search.recipe.step import Step


def test_a_value_of_another_kind_is_told_with_its_key() -> None:
    assert at_key(int, {"rounds": 3}, "rounds") == 3
    assert known_as(str, "text", "a name") == "text"
    with pytest.raises(TypeError, match="rounds is '3', no int"):
        at_key(int, {"rounds": "3"}, "rounds")
    with pytest.raises(KeyError, match="rounds"):
        at_key(int, {}, "rounds")


def test_a_value_or_a_step_that_is_left_out_is_none() -> None:
    block = {"granularity": "filter", "at": "3ep"}
    found = named_at(GRANULARITIES, block, "granularity")
    assert found is not None
    assert found.name == "filter"
    assert step_at(block, "at") == Step.parse("3ep")
    assert named_at(GRANULARITIES, {}, "granularity") is None
    assert step_at({}, "at") is None
