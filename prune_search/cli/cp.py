"""``prune-search cp``: copy a preset to a recipe file that you can edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prune_search.cli.arguments import examples
from prune_search.cli.exits import as_called
from prune_search.cli.verbs import VERBS, Verb

EPILOG = examples("prune-search cp lottery-ticket mine.yaml", "prune-search run mine.yaml")


@VERBS.register("cp", facts=Verb(epilog=EPILOG))
def cp(
    preset: Annotated[
        str, typer.Argument(metavar="PRESET", help="Name of the preset; `prune-search methods preset` lists them.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write. It must not exist yet.")],
) -> None:
    """Write a preset to a recipe file, with every default spelled out."""
    from prune_search.api.run import preset_text
    from prune_search.recipe.problems import Problem, UserError

    text = preset_text(preset)
    try:
        with open(file, "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise UserError([Problem("", "already exists and was not changed", str(file))]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError([Problem("", f"cannot be written: {reason}", str(file))]) from None
    typer.echo(as_called(f"{file}: written. Run it with: prune-search run {file}"))
