"""Errors on standard error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prune_search.cli.exits import FAILED, INTERRUPTED, MEND, USER, as_called, complain, folded


def test_a_message_of_several_lines_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("the storage is away\ntry again\n")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "prune-search: the storage is away try again\n")


def test_a_terminal_breaks_a_message_between_words_and_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prune-search"])
    line = "prune-search: Stopped; training states are stored. Continue with: prune-search resume dip --storage store"
    assert folded(line, 60).splitlines() == [
        "prune-search: Stopped; training states are stored. Continue",
        "with: prune-search resume dip --storage store",
    ]
    assert folded(line, 200) == line
    # Only a verb makes it a command.
    assert folded("prune-search reads format 3 of recipes", 20).splitlines()[0] == "prune-search reads"


def test_exit_codes_are_those_of_the_guide() -> None:
    """Scripts branch on them."""
    assert (MEND, USER, FAILED, INTERRUPTED) == (1, 2, 3, 130)


def test_a_hint_names_the_program_as_it_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "prune-search"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    hint = "next  prune-search run a --verify; prune-search reads format 3"
    for typed, shown in (
        (".venv/bin/prune-search", ".venv/bin/prune-search"),
        ("a b/prune-search", "'a b/prune-search'"),
        ("prune-search", "prune-search"),
        (str(program), "prune-search"),
        ("/usr/lib/prune_search/__main__.py", f"{Path(sys.executable).name} -m prune_search"),
    ):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(sys, "argv", [typed])
        assert as_called(hint) == f"next  {shown} run a --verify; prune-search reads format 3"
