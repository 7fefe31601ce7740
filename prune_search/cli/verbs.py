"""The verbs: each is a function in one file, registered like the value of an axis. A plug-in adds one the same way.

    >>> @VERBS.register("greet", facts=Verb(epilog="Example:  prune-search greet Ada"))
    ... def greet(name: str) -> None:
    ...     '''Say hello.'''
    ...     typer.echo(f"hello, {name}")

Its signature is the command line (see typer's documentation), its docstring the help, what it returns the exit code.
The file is imported by every command: torch, ray and whatever else is heavy is imported within the function.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import typer

from prune_search.cli.arguments import reflowed
from prune_search.recipe.facts import Facts
from prune_search.recipe.problems import UserError
from prune_search.recipe.registry import Axis, Entry


@dataclass(frozen=True)
class Verb(Facts):
    """A verb.

    Attributes:
        epilog: examples, shown below its help.
        passes_on: whether it takes options that it does not know, in ``typer.Context.args``.
    """

    epilog: str = ""
    passes_on: bool = False


# In the order of `prune-search --help`.
FILES = (
    "run",
    "plan",
    "launch",
    "resume",
    "submit",
    "status",
    "list",
    "compare",
    "export",
    "sync",
    "ui",
    "delete",
    "storage",
    "doctor",
    "validate",
    "methods",
    "cp",
)
VERBS: Axis[Verb, int | None] = Axis(
    Verb, "verb", "prune-search VERB", tuple(f"prune_search.cli.{name}" for name in FILES)
)


def command_of(app: typer.Typer, verbs: Iterable[Entry[Verb, int | None]]) -> Any:
    """An app with verbs as its commands, as click runs it.

    Raises:
        UserError: the signature of a verb is no command line.
    """
    chosen = list(verbs)
    for verb in chosen:
        settings = {"allow_extra_args": True, "ignore_unknown_options": True} if verb.facts.passes_on else None
        epilog = verb.facts.epilog or None
        app.command(verb.name, help=reflowed(verb.make), epilog=epilog, context_settings=settings)(verb.make)
    try:
        return typer.main.get_command(app)
    except Exception as error:
        if len(chosen) == 1:
            text = f"the signature of verb {chosen[0].name!r} cannot become a command: {error}"
            raise UserError(f"{chosen[0].make.__module__}: {text}") from error
        for verb in chosen:
            command_of(typer.Typer(), [verb])
        raise


def parsed(verb: str, words: list[str]) -> dict[str, Any]:
    """The arguments and options of a verb that words of a command line mean; the verb is not run.

    Raises:
        click.ClickException: they are wrong.
    """
    command = command_of(typer.Typer(), [VERBS[verb]])
    return dict(command.make_context(verb, list(words)).params)
