"""One module in the working directory adds to every axis, and a verb; one that is wrong is told in a sentence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Typed

from prune_search.cli.verbs import VERBS
from prune_search.recipe import plugins
from prune_search.recipe.axes import AXES
from prune_search.recipe.registry import AnyAxis, AnyEntry

EVERY_AXIS = Path(__file__).with_name("every_axis.py")
NAME = "my_plugin"
SPACE = """\
preset: my-paper
mask: {sparsity: {hole: uniform, low: 0.3, high: 0.7}}
search: {trials: 2, concurrency: 1, sampler: my-draws, scheduler: my-patience, objectives: [maximize val/accuracy]}
"""
Named = Callable[[str], None]


def theirs(axis: AnyAxis) -> list[AnyEntry]:
    return [entry for entry in axis.values() if entry.make.__module__ == NAME]


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Named]:
    """Name a plug-in of a given text that lies in the working directory; all of it is forgotten afterwards."""
    everything: list[AnyAxis] = [*AXES, VERBS]
    for axis in everything:
        assert len(axis) > 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv(plugins.VARIABLE, NAME)

    def name_it(text: str) -> None:
        (tmp_path / f"{NAME}.py").write_text(text, encoding="utf-8")
        monkeypatch.setattr(plugins, "_imported", False)
        monkeypatch.setattr(plugins, "_failure", None)

    yield name_it
    monkeypatch.undo()
    sys.modules.pop(NAME, None)
    for axis in everything:
        for entry in theirs(axis):
            axis.withdraw(entry.name)


@pytest.fixture
def plugin(named: Named) -> None:
    named(EVERY_AXIS.read_text(encoding="utf-8"))


def data_of(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.usefixtures("plugin")
def test_it_has_an_entry_on_every_axis_and_a_verb_and_all_are_shown(typed: Typed) -> None:
    rows = data_of(typed("methods", "--json").out)["methods"]
    shown = {(row["axis"], row["name"], row["summary"]) for row in rows}
    for axis in AXES:
        (entry,) = theirs(axis)
        assert (axis.name, entry.name, entry.summary) in shown
    said = typed("--help")
    assert (said.code, "greet" in said.out, "Say hello." in said.out) == (0, True, True)
    assert typed("greet", "Ada").out == "hello, Ada\n"
    said = typed("greet")
    assert (said.code, "Missing argument" in said.err) == (2, True)


@pytest.mark.usefixtures("plugin")
def test_a_recipe_of_its_entries_is_validated_and_run(typed: Typed) -> None:
    said = typed("validate", "my-paper", "--json")
    assert (said.code, data_of(said.out)["files"][0]["kind"]) == (0, "recipe")
    said = typed("validate", "my-paper", "--set", "mask.criterion.centre=3")
    assert (said.code, "mask.criterion.centre: must be a number" in said.err) == (2, True)
    said = typed("run", "my-paper", "--json")
    data = data_of(said.out)
    assert (said.code, data["sparsity"]["reached"], data["paradigm"]) == (0, 0.5, "my-paper")
    assert data["metrics"]["my-error"] == 1 - data["metrics"]["val/accuracy"]
    assert [(layer["units"], layer["units_kept"]) for layer in data["layers"]] == [(64, 32), (8, 4)]


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_a_simulated_search_of_its_entries_is_compared_with_its_picture(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    nowhere = ("--tracking-uri", "http://127.0.0.1:9")
    said = typed("launch", "space.yaml", "--surface", "my-slope", "--name", "mine", "--json", *nowhere)
    assert (said.code, data_of(said.out)["trials"]["completed"]) == (0, 2)
    said = typed("compare", "mine", "--pictures", "pictures", "--json")
    rows = data_of(said.out)["rows"]
    assert [row["metrics"]["val/accuracy"] for row in rows] == pytest.approx(
        [1 - row["metrics"]["sparsity"] / 2 for row in rows], abs=1e-4
    )
    assert (tmp_path / "pictures" / "my-dots.svg").stat().st_size > 0


def test_the_console_script_finds_it_in_the_working_directory_and_imports_nothing_heavy(tmp_path: Path) -> None:
    shutil.copy(EVERY_AXIS, tmp_path / f"{NAME}.py")
    script = Path(sys.executable).with_name("prune-search")
    environment = {**os.environ, plugins.VARIABLE: NAME, "PYTHONPATH": str(Path(plugins.__file__).parents[2])}
    text = (
        "import runpy, sys\nsys.argv = sys.argv[1:]\nsys.path[0] = sys.argv[0].rpartition('/')[0]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nfinally:\n"
        "    print([name for name in ('torch', 'ray', 'mlflow', 'optuna') if name in sys.modules], file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", text, str(script), "greet", "Ada"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello, Ada\n", "[]\n")


HEAD = """\
from prune_search.cli.verbs import VERBS
from prune_search.recipe.axes import CRITERIA, DATASETS
from prune_search.recipe.fields import Flag
from prune_search.recipe.registry import Option

"""
OPTIONS = "options={'fast': Option(Flag(), False)}"
WRONG = {
    "an option that the function does not take": (
        f"@CRITERIA.register('x', summary='x', {OPTIONS})\ndef x(scoring): ...",
        ["my_plugin: criterion 'x' is called as x(scoring, fast=…)", "'fast'", "line 6 of"],
    ),
    "no argument of the axis": (
        "@CRITERIA.register('x', summary='x')\ndef x(): ...",
        ["my_plugin: criterion 'x' is called as x(scoring)", "too many positional arguments"],
    ),
    "an argument that nobody gives": (
        "@CRITERIA.register('x', summary='x')\ndef x(scoring, more): ...",
        ["my_plugin: criterion 'x'", "missing a required argument: 'more'"],
    ),
    "a name that is taken": (
        "@DATASETS.register('digits', summary='x')\ndef x(root): ...",
        ["data set 'digits' is registered twice"],
    ),
    "an unknown fact": (
        "@CRITERIA.register('x', summary='x', speed=3)\ndef x(scoring): ...",
        ["criterion 'x' declares unknown facts ['speed']"],
    ),
    "nothing that says what it is": (
        "@CRITERIA.register('x')\ndef x(scoring): ...",
        ["criterion 'x'", "give it a summary or a docstring"],
    ),
    "a verb that is no command line": (
        "@VERBS.register('x', summary='x')\ndef x(what: int | str): ...",
        ["my_plugin: the signature of verb 'x' cannot become a command"],
    ),
    "a module that is missing": ("import no_such_module", ["ModuleNotFoundError", "'no_such_module'", "line 6 of"]),
    "what is no Python": ("def x(:", ["SyntaxError", "line 6 of"]),
    "an end of the program": ("raise SystemExit(3)", ["SystemExit: 3"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_one_is_refused_in_one_sentence(what: str, named: Named, typed: Typed) -> None:
    text, words = WRONG[what]
    named(HEAD + text + "\n")
    for _ in range(2):
        said = typed("methods", "criterion")
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        for word in (NAME, *words):
            assert word in said.err


def test_a_wrong_one_of_an_installed_distribution_is_named(
    named: Named, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import EntryPoint

    named("raise RuntimeError('not today')")
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(sys, "path", [os.getcwd(), *sys.path])
    points = [EntryPoint("theirs", NAME, "prune_search")]
    monkeypatch.setattr(plugins, "entry_points", lambda **_: points)
    said = typed("methods", "criterion")
    assert said.code == 2
    assert "entry point 'theirs' of group prune_search names 'my_plugin'" in said.err
    assert "RuntimeError: not today" in said.err


def test_what_makes_the_wrong_thing_is_told_by_its_name(named: Named, typed: Typed) -> None:
    named(HEAD + "@DATASETS.register('x', summary='x')\ndef x(root):\n    return 3\n")
    said = typed("run", "dense", "--set", "task.data=x")
    assert (said.code, "'x' returned a int where a DataSet or a Task is needed" in said.err) == (2, True)
    with contextlib.suppress(KeyError):
        del sys.modules[NAME]
