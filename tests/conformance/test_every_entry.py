"""Every registered value of every axis says what it is, and takes what it says that it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from prune_search.recipe.axes import AXES, OPTIMIZERS
from prune_search.recipe.fields import BAD, Reading, Value
from prune_search.recipe.registry import REQUIRED, AnyAxis, AnyEntry

ENTRIES = [pytest.param(axis, entry, id=f"{axis.name}: {name}") for axis in AXES for name, entry in axis.items()]
OPTIONS = [
    pytest.param(entry, key, id=f"{axis.name}: {name}.{key}")
    for axis in AXES
    for name, entry in axis.items()
    for key in entry.options
]


def reading() -> Reading:
    """As inside a recipe, where a phase's optimizer is merged over the training's."""
    return Reading(outer_optimizer={"name": next(iter(OPTIMIZERS))})


@pytest.mark.parametrize(("axis", "entry"), ENTRIES)
def test_it_says_what_it_is(axis: AnyAxis, entry: AnyEntry) -> None:
    assert axis[entry.name] is entry
    assert entry.axis == axis.name
    assert entry.summary.strip() == entry.summary != ""
    assert "\n" not in entry.summary
    assert (entry.make.__doc__ or "").strip() != ""
    assert type(entry.facts) is axis.facts


@pytest.mark.parametrize(("axis", "entry"), ENTRIES)
def test_its_bare_name_is_a_value_and_the_canonical_form_reads_as_itself(axis: AnyAxis, entry: AnyEntry) -> None:
    if any(option.default is REQUIRED for option in entry.options.values()):
        pytest.skip("it has an option that must be given")
    first, second = reading(), reading()
    canonical = Value(axis).read(entry.name, "x", first)
    assert first.problems == []
    assert Value(axis).read(canonical, "x", second) == canonical
    assert second.problems == []
    assert json.loads(json.dumps(canonical)) == canonical


@pytest.mark.parametrize(("axis", "entry"), ENTRIES)
def test_an_option_that_it_does_not_have_is_refused_by_name(axis: AnyAxis, entry: AnyEntry) -> None:
    told = reading()
    assert Value(axis).read({"name": entry.name, "no-such-option": 1}, "x", told) is BAD
    assert any("no-such-option" in problem.path for problem in told.problems)


@pytest.mark.parametrize(("entry", "key"), OPTIONS)
def test_its_options_are_described_and_their_defaults_allowed(entry: AnyEntry, key: str) -> None:
    option = entry.options[key]
    assert (option.doc or option.field.describe()).strip() != ""
    assert option.field.describe().strip() != ""
    if option.default is REQUIRED or option.default is None:
        return
    told = reading()
    value = option.field.read(option.default, key, told)
    assert told.problems == []
    assert value is not BAD
    assert option.field.read(value, key, told) == value


@pytest.mark.parametrize(("entry", "key"), OPTIONS)
def test_its_options_refuse_what_is_none_of_them(entry: AnyEntry, key: str) -> None:
    told = reading()
    wrong: Any = {"neither": ["this", "nor", "that"]}
    assert entry.options[key].field.read(wrong, key, told) is BAD
    assert told.problems != []


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.name)
def test_a_name_is_registered_once(axis: AnyAxis) -> None:
    for name in axis:
        with pytest.raises(ValueError, match="twice"):
            axis.register(name, summary="again")


def test_the_whole_registry_is_read_without_torch() -> None:
    text = "import sys; from prune_search.recipe.axes import AXES; print(sum(map(len, AXES)), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(len(ENTRIES)), "False"]
