"""Prints how a search ended, and which commands can follow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from prune_search.cli.exits import FAILED, as_called, complain

if TYPE_CHECKING:
    from prune_search.api.outcome import Outcome


def finish(outcome: Outcome, storage: str | None, as_json: bool) -> int:
    """Print how a search ended and what to run next; return the exit code."""
    from prune_search.api.where import storage_option
    from prune_search.ledger.uris import masked

    data = outcome.as_data()
    typed = f"{data['name']}{storage_option(storage)}"
    if as_json:
        typer.echo(json.dumps(data, allow_nan=False))
    else:
        _show(outcome, data, storage)
    if data["undelivered"]:
        count, uri = data["undelivered"], masked(data["tracking_uri"])
        text = f"{count} records have not reached MLflow at {uri} yet: {data['undelivered_reason'].rstrip('.')}."
        complain(f"{text} Deliver them later with: prune-search sync {typed}")
    if outcome.signal is not None:
        complain(f"Stopped; training states are stored. Continue with: prune-search resume {typed}")
        return 128 + outcome.signal
    return 0 if data["trials"]["completed"] else FAILED


def _show(outcome: Outcome, data: dict[str, Any], storage: str | None) -> None:
    from prune_search.api.where import storage_option
    from prune_search.cli.comparison import show_comparison
    from prune_search.cli.status import duration, steps_line
    from prune_search.report.compare import compare_data
    from prune_search.tracking.addresses import table_address

    if outcome.signal is None:
        show_comparison(compare_data([outcome.records]), storage)
        # Where MLflow is served, its table is there; else it is by the command.
        address = table_address(outcome.records)
        command = as_called(f"prune-search ui{storage_option(storage)}")
        typer.echo(f"next  {address or command}  (all trials in the MLflow UI)")
    counts = ", ".join(f"{count} {name}" for name, count in data["trials"].items() if count)
    typer.echo(f"{data['name']}: {counts or 'no trials'} in {duration(data['wall_s'])}; steps: {steps_line(data)}")
