"""Every registered value of every axis passes the checks that `prune_search.testing` has for its axis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from prune_search.recipe.axes import AXES, CRITERIA, DATASETS
from prune_search.recipe.registry import REQUIRED, AnyAxis
from prune_search.testing import CHECKS, check_criterion, check_entry

# What a check is called with, where the name alone does not do: samplers leave their random beginning soon.
GIVEN: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("sampler", "random"): {"trials": 6},
    ("sampler", "grid"): {"trials": 6},
    ("sampler", "tpe"): {"startup": 4, "trials": 8},
    ("sampler", "nsga2"): {"population": 4, "trials": 8},
    ("sampler", "gp"): {"startup": 2, "trials": 4},
}
# Data sets whose files are not here are checked where the files are; a table of measurements is one's own file.
NOT_HERE = {name for name, entry in DATASETS.items() if not entry.facts.embedded} | {"measured-table"}
# Seconds each; what their axis asks is asked of the others always.
SLOW = {"gp", "guided", "obs-compensation", "obs", "hessian-trace", "vgg-16-bn"}
ENTRIES = [(axis, name) for axis in AXES for name in axis]
RUNNING = [
    pytest.param(axis, name, id=f"{axis.name}: {name}", marks=pytest.mark.slow if name in SLOW else ())
    for axis, name in ENTRIES
    if name not in NOT_HERE
]


@pytest.mark.parametrize(("axis", "name"), RUNNING)
def test_it_does_what_its_axis_asks_of_it(axis: AnyAxis, name: str) -> None:
    CHECKS[axis.name](name, **GIVEN.get((axis.name, name), {}))


@pytest.mark.parametrize("name", sorted(NOT_HERE))
def test_what_needs_a_file_says_what_it_is_and_takes(name: str) -> None:
    (axis,) = [axis for axis in AXES if name in axis]
    check_entry(axis, name, {key: "x" for key, option in axis[name].options.items() if option.default is REQUIRED})


@pytest.mark.slow
@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_is_its_slow_definition_with_every_option_on_every_network(name: str) -> None:
    check_criterion(name, thoroughly=True)


def test_every_axis_has_a_check_and_every_criterion_that_does_not_train_a_slow_definition() -> None:
    assert set(CHECKS) == {axis.name for axis in AXES}
    assert [name for name, entry in CRITERIA.items() if not entry.facts.trains and entry.facts.oracle is None] == []


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_a_name_is_registered_once(axis: AnyAxis) -> None:
    for name in axis:
        assert axis[name].name == name
        with pytest.raises(ValueError, match="twice"):
            axis.register(name, summary="again")


def test_the_whole_registry_is_read_without_torch() -> None:
    text = "import sys; from prune_search.recipe.axes import AXES; print(sum(map(len, AXES)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(len(ENTRIES)), "False"]


@pytest.mark.slow
def test_the_checks_need_no_pytest(tmp_path: Path) -> None:
    text = "import sys; import prune_search.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False"]
