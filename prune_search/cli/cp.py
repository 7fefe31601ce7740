"""``prune-search cp``: a preset as a file to change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prune_search.cli.verbs import VERBS, Verb

EPILOG = "Example:  prune-search cp lottery-ticket mine.yaml  &&  prune-search run mine.yaml"


@VERBS.register("cp", facts=Verb(epilog=EPILOG))
def cp(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="The preset's name, see `methods preset`.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
) -> None:
    """Write a preset as a recipe file, every default written out."""
    from prune_search.api.run import preset_text
    from prune_search.recipe.problems import Problem, UserError

    text = preset_text(preset)
    try:
        with open(file, "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise UserError([Problem("", "exists already; it is left as it is", str(file))]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError([Problem("", f"cannot be written: {reason}", str(file))]) from None
    typer.echo(f"{file}: written; prune-search run {file}")
