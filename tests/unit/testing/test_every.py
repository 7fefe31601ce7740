"""All entries of a module, each by the check of its axis, from Python and from the command line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import prune_search
from prune_search.recipe.axes import AXES
from prune_search.testing import CHECKS, check_every_entry
from prune_search.testing.every import entries_of

GUIDE = Path(prune_search.__file__).parent / "guide"


def test_a_module_that_registers_nothing_is_told() -> None:
    with pytest.raises(AssertionError, match=r"^json registers nothing$"):
        check_every_entry("json")


def example(file: str) -> str:
    """A file that guide/criterion.md shows."""
    text = (GUIDE / "criterion.md").read_text(encoding="utf-8")
    found = re.search(rf"^```python\n(# {re.escape(file)}\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_guides_own_entries_pass_by_the_command_that_it_shows(tmp_path: Path) -> None:
    for file in ("my_criterion.py", "my_picture.py"):
        (tmp_path / file).write_text(example(file))
    command = "python -m prune_search.testing my_criterion"
    assert f"```sh\n{command}\n```" in (GUIDE / "criterion.md").read_text(encoding="utf-8")
    words = [sys.executable, *command.split()[1:], "my_picture"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["passed  criterion 'distance'", "passed  picture 'steps-accuracy'"]


@pytest.mark.slow
def test_the_command_says_what_fails_and_ends_with_1(tmp_path: Path) -> None:
    text = example("my_criterion.py").replace("(weight - 1).abs()", "weight.sum()")
    (tmp_path / "wrong_criterion.py").write_text(text)
    words = [sys.executable, "-m", "prune_search.testing", "wrong_criterion"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("FAILED  criterion 'distance': the scores of 1.weight have the shape [], ")
    assert done.stderr.count("\n") == 1


def test_every_axis_has_a_check_and_a_package_stands_for_its_modules() -> None:
    assert set(CHECKS) == {axis.name for axis in AXES}
    names = {entry.name for entry in entries_of("prune_search.pruning.mask.granularities")}
    assert {"weight", "filter", "channel"} <= names
    assert {entry.axis for entry in entries_of("prune_search.pruning.mask.granularities.weight")} == {"granularity"}
