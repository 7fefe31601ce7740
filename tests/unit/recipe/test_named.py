"""A registered value as a recipe names it."""

from __future__ import annotations

import pytest

from prune_search.recipe.axes import GRANULARITIES, OPTIMIZERS
from prune_search.recipe.fields import Number
from prune_search.recipe.named import Named
from prune_search.recipe.problems import UserError
from prune_search.recipe.registry import Option


def test_a_bare_word_and_a_mapping_are_read_and_their_entry_is_found() -> None:
    assert (Named.of(GRANULARITIES, "weight").name, Named.of(GRANULARITIES, "weight").written) == ("weight", "weight")
    written = {"name": "n-of-m", "n": 2, "m": 4}
    pattern = Named.of(GRANULARITIES, written)
    assert (pattern.name, dict(pattern.options), pattern.written) == ("n-of-m", {"n": 2, "m": 4}, written)
    assert pattern.entry(GRANULARITIES) is GRANULARITIES["n-of-m"]
    with pytest.raises(TypeError):
        pattern.options["n"] = 3  # type: ignore[index]


def test_a_name_that_nobody_registered_is_suggested() -> None:
    with pytest.raises(UserError, match=r"train\.optimizer: .*did you mean 'sgd'") as refused:
        Named.of(OPTIMIZERS, "sdg")
    assert len(refused.value.problems) == 1


def test_an_option_of_a_later_version_has_its_default_in_recipes_that_were_written_before() -> None:
    options = {"centre": Option(Number(0.0, 1.0), 0.5, "of it", later=True)}

    @GRANULARITIES.register("later-here", summary="under test", options=options)
    def later(weight: object, centre: float) -> object:
        """The weight."""
        return weight

    try:
        assert Named.of(GRANULARITIES, "later-here").options == {"centre": 0.5}
        assert Named.of(GRANULARITIES, {"name": "later-here", "centre": 0.25}).options == {"centre": 0.25}
    finally:
        GRANULARITIES.withdraw("later-here")
