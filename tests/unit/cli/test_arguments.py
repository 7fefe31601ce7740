"""--set, and the texts of help pages."""

from __future__ import annotations

import pytest

from prune_search.cli.arguments import examples, read_sets, reflowed
from prune_search.recipe.problems import UserError


def test_set_reads_values_as_yaml_and_splits_at_the_first_equals_sign() -> None:
    given = ["mask.sparsity=0.95", "train.steps=20ep", "retrain=none", "data.path=a=b"]
    assert read_sets(given) == {"mask.sparsity": 0.95, "train.steps": "20ep", "retrain": "none", "data.path": "a=b"}
    assert read_sets(None) == {}


def test_all_options_that_are_wrong_are_named_at_once() -> None:
    with pytest.raises(UserError) as refused:
        read_sets(["mask.sparsity", "=3", "rounds=2", "a=[1"])
    told = [str(problem) for problem in refused.value.problems]
    assert len(told) == 3
    assert told[0] == "--set: must be KEY=VALUE (got 'mask.sparsity')"
    assert told[2].startswith("--set: a: ")


def test_a_docstring_becomes_one_line_per_paragraph() -> None:
    def command() -> None:
        """Do a thing
        that is long.

        And another.
        """

    assert reflowed(command) == "Do a thing that is long.\n\nAnd another."
    assert reflowed(None) == ""
    assert examples("one", "two") == "Examples:\n  one\n  two"
