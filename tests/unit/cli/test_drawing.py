"""Warnings of the package appear as lines on standard error while progress is drawn."""

from __future__ import annotations

import logging

import pytest

from prune_search.cli.drawing import drawing


def test_a_warning_is_one_line_on_standard_error_and_only_while_it_draws(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("prune_search.something")
    before = list(logging.getLogger("prune_search").handlers)
    for quiet in (True, False):
        with drawing(quiet) as progress:
            assert (progress is None) == quiet
            logger.warning("the [disk] is nearly full")
        said = capsys.readouterr()
        assert said.out == ""
        assert "the [disk] is nearly full" in " ".join(said.err.split())
    assert logging.getLogger("prune_search").handlers == before


def test_the_warnings_are_given_back_after_an_error_too() -> None:
    before = list(logging.getLogger("prune_search").handlers)
    with pytest.raises(ZeroDivisionError), drawing(quiet=True):
        raise ZeroDivisionError
    assert logging.getLogger("prune_search").handlers == before
