"""``prune-search validate``: check recipe and space files and report every error in one go."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from prune_search.cli.arguments import Json, Sets, examples, read_sets
from prune_search.cli.exits import USER, complain
from prune_search.cli.verbs import VERBS, Verb

EPILOG = examples("prune-search validate my.yaml", "prune-search validate search_spaces/*.yaml --json")


@VERBS.register("validate", facts=Verb(epilog=EPILOG))
def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE …", help="Recipe or space files, folders of runs, or presets.")
    ],
    sets: Sets = None,
    as_json: Json = False,
) -> int:
    """Check recipe and space files. Reports every error, and warns about invalid regions of a space.

    Training times such as `2ep` are checked against the size of the data set if it is known without reading the data.
    The exit code is 2 if there are errors.
    """
    from prune_search.recipe.problems import UserError
    from prune_search.recipe.space import find, inspect

    values = list(read_sets(sets).items())
    reports: list[dict[str, Any]] = []
    for name in files:
        try:
            raw, source = find(name)
            space, problems = inspect(raw, source, values)
        except UserError as error:
            space, problems = None, list(error.problems)
        errors = [str(problem) for problem in problems if problem.form or space is None]
        if space is not None and not space.has_holes:
            errors = [str(problem) for problem in problems]
        warnings = [str(problem) for problem in problems if str(problem) not in errors]
        kind = "" if space is None or errors else "space" if space.has_holes else "recipe"
        reports.append({"file": name, "ok": not errors, "kind": kind, "errors": errors, "warnings": warnings})
    _show(reports, as_json)
    return 0 if all(report["ok"] for report in reports) else USER


def _show(reports: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"files": reports, "ok": all(report["ok"] for report in reports)}))
        return
    for report in reports:
        for error in report["errors"]:
            complain(error)
        for warning in report["warnings"]:
            complain(f"warning: {warning}")
        if report["ok"]:
            typer.echo(f"{report['file']}: ok ({report['kind']})")
