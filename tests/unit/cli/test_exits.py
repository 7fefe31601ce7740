"""Errors on standard error."""

from __future__ import annotations

import pytest

from prune_search.cli.exits import FAILED, INTERRUPTED, MEND, USER, complain


def test_a_message_of_several_lines_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("the storage is away\ntry again\n")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "prune-search: the storage is away try again\n")


def test_exit_codes_are_those_of_the_guide() -> None:
    """Scripts branch on them."""
    assert (MEND, USER, FAILED, INTERRUPTED) == (1, 2, 3, 130)
