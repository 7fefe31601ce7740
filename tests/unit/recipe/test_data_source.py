"""What is known of a data set before it is read: by its name and its options, as far as they are written."""

from __future__ import annotations

import pytest

from prune_search.recipe.axes import DATASETS
from prune_search.recipe.data_source import source_of
from prune_search.recipe.facts import DataSource
from prune_search.recipe.space import nominal_epoch


@pytest.mark.parametrize("data", ["no-such-data", {"name": "no-such-data"}, {}, None, 3, "module:function"])
def test_of_what_is_not_registered_nothing_is_known(data: object) -> None:
    assert source_of(data) == DataSource()


def test_a_data_set_without_options_that_matter_is_what_it_declares() -> None:
    assert source_of("digits") == source_of({"name": "digits"}) == DATASETS["digits"].facts


def test_options_count_and_what_is_left_out_has_its_default() -> None:
    plain = DATASETS["sparse-signal"].facts
    assert source_of("sparse-signal").train_examples == plain.train_examples == 10
    given = source_of({"name": "sparse-signal", "train": 64, "dimension": 30})
    assert (given.train_examples, given.shape, given.classes, given.embedded) == (64, (30,), 2, True)
    assert nominal_epoch({"name": "sparse-signal", "train": 64}, 16) == 4
    # Where an option is not read yet, the default's size stands.
    assert source_of({"name": "sparse-signal", "train": {"hole": "int", "low": 1, "high": 2}}) == plain
