"""The program itself: what it imports, its version, its help, and which error ends it with which code."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from command_line import Typed

from prune_search.cli.exits import FAILED, INTERRUPTED, USER
from prune_search.cli.verbs import VERBS
from prune_search.recipe.problems import Problem, UserError
from prune_search.storage.files import StorageError
from prune_search.trial.errors import TrialError
from prune_search.version import __version__


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["methods", "--json"], ["validate", "snip", "--json"]]
)
def test_what_trains_nothing_imports_nothing_heavy(words: list[str]) -> None:
    text = (
        "import sys\nfrom prune_search.cli import main\nsys.argv = ['prune-search', *sys.argv[1:]]\n"
        "try:\n    main.main()\nfinally:\n"
        "    print([name for name in ('torch', 'ray', 'mlflow', 'optuna') if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", text, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"


def test_ctrl_c_in_a_command_ends_it_with_130(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prune_search.api.run.run", interrupted)
    assert typed("run", "snip").code == INTERRUPTED == 130


def test_the_version_and_the_help_are_shown(typed: Typed) -> None:
    said = typed("--version")
    assert (said.code, said.out) == (0, f"prune-search {__version__}\n")
    said = typed("--help")
    assert said.code == 0
    assert [name for name in VERBS if name not in said.out] == []
    said = typed("lanch", "quickstart")
    assert (said.code, said.out) == (USER, "")
    assert "No such command" in said.err


def test_every_kind_of_error_has_its_exit_code_and_a_line_each(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[tuple[BaseException, int, list[str]]] = [
        (
            UserError([Problem("rounds", "must be at least 1"), Problem("mask", "is missing")]),
            USER,
            ["rounds: must be at least 1", "mask: is missing"],
        ),
        (TrialError("nan", "the loss is not a number at step 40"), FAILED, ["the loss is not a number at step 40"]),
        (StorageError("the disk\nis full"), FAILED, ["the disk is full"]),
        (typer.Abort(), INTERRUPTED, ["Interrupted. Stored states are kept; run the same command again to continue."]),
    ]
    for error, code, lines in cases:

        def raises(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("prune_search.api.run.run", raises)
        said = typed("run", "snip")
        assert (said.code, said.out) == (code, ""), error
        assert said.err.splitlines() == [f"prune-search: {line}" for line in lines]
