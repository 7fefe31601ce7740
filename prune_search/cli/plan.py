"""``prune-search plan``: what a search will cost, before it is launched."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli.arguments import Data, DataRoot, Device, Json, Model, Sets, Storage, read_sets
from prune_search.cli.verbs import VERBS, Verb

if TYPE_CHECKING:
    from prune_search.api.plan import PlannedSearch

EPILOG = (
    "Examples:  prune-search plan quickstart  ·  "
    "prune-search plan search_spaces/lottery_ticket.yaml --data-root ~/data --trials 64  ·  "
    "prune-search plan my.yaml --no-calibrate --json"
)
# Above these a launch asks, unless it was told --yes.
ASK_STEPS, ASK_TRIALS = 10_000_000, 10_000
ASKED = f"Ask nothing; without it a search of over {ASK_STEPS:,} steps or {ASK_TRIALS:,} trials asks."
MAX_PARAMS = 4


@VERBS.register("plan", facts=Verb(epilog=EPILOG))
def plan(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="A space file, or the name of a shipped space.")],
    sets: Sets = None,
    trials: Annotated[int | None, typer.Option("--trials", help="How many trials.")] = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrate/--no-calibrate", help="Train a few steps, so that hours are known.")
    ] = True,
    storage: Storage = None,
    data_root: DataRoot = None,
    model: Model = None,
    data: Data = None,
    device: Device = "auto",
    as_json: Json = False,
) -> int:
    """Say what a search will cost: trials, steps with and without sharing, hours, storage. Nothing is run.

    Training that trials share is counted once. What lies in the storage already makes it cheaper still.
    """
    values = read_sets(sets) | ({} if trials is None else {"search.trials": trials})
    from prune_search.api.plan import plan as plan_search
    from prune_search.api.where import Where

    planned = plan_search(
        space, set=values, where=Where(data_root, storage, model, data, device), calibrated=calibrated
    )
    if as_json:
        typer.echo(json.dumps(planned.as_data(), allow_nan=False))
    else:
        _show(planned)
    return 0


def summary(planned: PlannedSearch) -> str:
    """The plan on one line."""
    made = planned.plan
    text = f"{made.trials:,} trials, {made.steps_shared + made.steps_controls:,} steps to train"
    if made.steps_unshared > made.steps_shared:
        text += f" ({made.steps_unshared:,} without sharing, {made.ceiling:.2f} times the shared ones)"
    return text


def must_ask(planned: PlannedSearch) -> bool:
    """Whether a search is so large that it is asked for."""
    made = planned.plan
    return made.steps_shared + made.steps_controls > ASK_STEPS or made.trials > ASK_TRIALS


def agreed(planned: PlannedSearch) -> bool:
    """Ask whether a large search is meant; a terminal is asked, anything else has to say --yes."""
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"{summary(planned)}: launch it?", err=True)


def _show(planned: PlannedSearch) -> None:
    from rich.console import Console
    from rich.table import Table

    made = planned.plan
    grid = Table.grid(padding=(0, 2))
    for name, text in _lines(planned):
        grid.add_row(f"[bold]{name}[/bold]", text)
    console = Console(soft_wrap=False)
    console.print(grid, highlight=False)
    table = Table(title=f"first {len(made.first)} trials", box=None, header_style="bold")
    table.add_column("paradigm")
    table.add_column("steps", justify="right")
    table.add_column("drawn")
    for row in made.as_data()["first"]:
        table.add_row(row["paradigm"], f"{row['steps']:,}", _params(row["params"]))
    console.print(table, highlight=False)
    for warning in made.warnings:
        console.print(f"[bold]warning[/bold]  {warning}", highlight=False)


def _lines(planned: PlannedSearch) -> list[tuple[str, str]]:
    from prune_search.cli.status import duration
    from prune_search.storage.sizes import shown_size

    made = planned.plan
    how = "as they will be proposed" if made.exact else "drawn at random; the sampler will choose others"
    lines = [
        ("trials", f"{made.trials:,}, {made.recipes:,} distinct ({how})"),
        ("stretches", f"{made.vertices:,} distinct of {made.segments:,} that the trials need"),
        ("steps", f"{made.steps_shared:,} shared, {made.steps_unshared:,} without sharing"),
        ("ceiling", f"sharing trains {made.ceiling:.2f} times fewer steps, at best"),
        ("controls", f"{made.steps_controls:,} steps more, about"),
    ]
    if made.scheduler_share:
        lines.append(("scheduler", f"can save up to {made.scheduler_share:.0%} of the shared steps"))
    if planned.device_hours is not None and planned.storage_bytes is not None:
        device = planned.calibration[0][0].device
        lines.append(("time", f"about {duration(3600 * planned.device_hours)} on one {device} like this"))
        lines.append(("storage", f"about {shown_size(planned.storage_bytes)} in {made.states:,} states"))
    return lines


def _params(params: dict[str, Any]) -> str:
    from rich.markup import escape

    parts = [f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}" for path, value in params.items()]
    return escape(", ".join(parts[:MAX_PARAMS]) + (", …" if len(parts) > MAX_PARAMS else ""))
