"""How an entry is read for its checks, and how it is said what does not hold."""

from __future__ import annotations

import pytest

from prune_search.recipe.axes import GRANULARITIES, OPTIMIZERS
from prune_search.testing.checked import Checked, entry_of, read


def test_what_does_not_hold_is_said_with_axis_and_name() -> None:
    one = Checked.of(GRANULARITIES, "weight")
    one.require([1], "is not said")
    with pytest.raises(AssertionError, match=r"^granularity 'weight': it has no units$"):
        one.require([], "it has no units")


def test_a_value_is_read_as_a_recipe_reads_it() -> None:
    assert read(GRANULARITIES, {"name": "n-of-m", "n": 2, "m": 4}).options == {"n": 2, "m": 4}
    # A phase's optimizer is merged over the training's, and needs one to be merged over.
    assert read(OPTIMIZERS, {"name": "sgd", "lr": 0.5}).options["lr"] == 0.5
    with pytest.raises(AssertionError, match=r"granularity .* cannot be read: .*m"):
        read(GRANULARITIES, {"name": "n-of-m", "n": 2, "m": 0})


def test_an_entry_that_is_not_registered_is_told() -> None:
    for look in (entry_of, Checked.of):
        with pytest.raises(AssertionError, match="granularity 'wight' is not registered: import its module first"):
            look(GRANULARITIES, "wight")
    assert entry_of(GRANULARITIES, "weight").name == "weight"
