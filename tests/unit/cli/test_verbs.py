"""Verbs: functions whose signatures are command lines."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from prune_search.cli.main import UsageProblem
from prune_search.cli.verbs import VERBS, Verb, command_of, parsed
from prune_search.recipe.problems import UserError
from prune_search.recipe.registry import Entry


def test_words_are_parsed_as_the_verb_takes_them_and_it_is_not_run() -> None:
    given = parsed("export", ["quickstart", "--to", "best", "--seeds", "3"])
    assert (given["name"], str(given["to"]), given["seeds"]) == ("quickstart", "best", 3)
    with pytest.raises(UsageProblem, match="--nonsense"):
        parsed("export", ["quickstart", "--nonsense"])


def test_every_verb_has_a_help_text() -> None:
    command: Any = command_of(typer.Typer(), VERBS.values())
    assert set(command.commands) == set(VERBS)
    assert all(one.help for one in command.commands.values())


def test_a_signature_that_is_no_command_line_is_said_of_its_verb() -> None:
    def broken(thing: int | str | list[int]) -> int | None:
        """Take what no command line can give."""

    entry: Entry[Verb, int | None] = Entry("verb", "broken", broken, Verb(), "takes what no command line can give")
    with pytest.raises(UserError, match="the signature of verb 'broken' cannot become a command"):
        command_of(typer.Typer(), [VERBS["doctor"], entry])
