"""The list of axes: complete, each with its own key and entries, found without torch."""

from __future__ import annotations

import subprocess
import sys

from prune_search.recipe import axes
from prune_search.recipe.registry import Axis


def test_every_axis_is_in_the_list_once_under_a_key_of_its_own() -> None:
    declared = [value for value in vars(axes).values() if isinstance(value, Axis)]
    assert declared == list(axes.AXES)
    for names in ([axis.name for axis in axes.AXES], [axis.key for axis in axes.AXES]):
        assert len(set(names)) == len(names)


def test_every_axis_finds_entries_whose_facts_are_its_own() -> None:
    for axis in axes.AXES:
        assert len(axis) > 0, axis.name
        for name, entry in axis.items():
            assert (entry.name, entry.axis, type(entry.facts)) == (name, axis.name, axis.facts)
            assert entry.summary


def test_a_look_at_the_criteria_imports_no_torch() -> None:
    program = (
        "import sys; from prune_search.recipe.axes import CRITERIA; list(CRITERIA); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
