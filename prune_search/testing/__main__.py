"""``python -m prune_search.testing MODULE …``: check what modules of your own register."""

from __future__ import annotations

import os
import sys

import typer

from prune_search.testing.every import check_every_entry


def main(modules: list[str]) -> int:
    """Check each module; 1 where something does not hold, 2 where none is named."""
    if not modules or modules[0].startswith("-"):
        typer.echo("usage: python -m prune_search.testing MODULE …\nChecks every entry that the modules register.")
        return 0 if modules else 2
    sys.path.insert(0, os.getcwd())
    code = 0
    for module in modules:
        try:
            check_every_entry(module, told=lambda label: typer.echo(f"passed  {label}"))
        except AssertionError as error:
            for line in str(error).splitlines():
                typer.echo(f"FAILED  {line}", err=True)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
