"""Which trial an export takes, and which options are refused before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_search import Told
from torch import nn

from prune_search.api.export import ExportOptions, chosen_trial, export, export_pareto
from prune_search.api.load import Loaded
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space


def told(storage: Path) -> Told:
    search = Told.begin(storage, objectives="[maximize val/accuracy]")
    search.trial("snip", 0.9, 0.90)
    search.trial("random", 0.9, 0.95)
    search.failed(0.8)
    return search


def test_the_best_trial_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    records = told(tmp_path).records
    assert chosen_trial(records).id == "000002"
    assert chosen_trial(records, "001-snip").id == "000001"
    key = records.trials["000001"].result["key"]
    assert chosen_trial(records, key[:6]).id == "000001"


def test_a_failed_trial_and_five_digits_of_a_key_name_nothing(tmp_path: Path) -> None:
    records = told(tmp_path).records
    for name in ("003-snip", "nothing", "", records.trials["000001"].result["key"][:5]):
        with pytest.raises(UserError, match="no completed trial has the name or key"):
            chosen_trial(records, name)


def test_all_numbers_that_are_out_of_range_are_named_at_once() -> None:
    with pytest.raises(UserError) as refused:
        ExportOptions(seeds=0, round_to=4096).check()
    assert [problem.path for problem in refused.value.problems] == ["--seeds", "--round-to"]


@pytest.mark.parametrize("options", [ExportOptions(trial="001-snip"), ExportOptions(register="champion")])
def test_a_front_is_not_exported_with_what_is_said_of_one_trial(tmp_path: Path, options: ExportOptions) -> None:
    with pytest.raises(UserError, match="single trial"):
        export_pareto("told", tmp_path / "front", options=options, where=Where(storage=str(tmp_path)))


def test_nothing_is_exported_where_no_trial_completed(tmp_path: Path) -> None:
    Told.begin(tmp_path).failed(0.9)
    with pytest.raises(UserError, match="no trial has completed yet"):
        export("told", tmp_path / "best", where=Where(storage=str(tmp_path)))
    assert not (tmp_path / "best").exists()


def test_the_compact_network_is_the_one_to_deploy_where_there_is_one() -> None:
    recipe = read_space({"preset": "snip"}, "a test").only_recipe()
    masked, small = nn.Linear(4, 2), nn.Linear(2, 2)
    assert Loaded(masked, recipe, {}).network() is masked
    assert Loaded(masked, recipe, {}, compact=small).network() is small
