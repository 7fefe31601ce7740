"""Draws the progress of a search: trials done, running and failed, best so far, steps saved, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prune_search.cli.drawing import drawing
from prune_search.ledger.account import account_of
from prune_search.ledger.finalists import winner_of
from prune_search.ledger.pauses import where_paused
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import ended_in

if TYPE_CHECKING:
    from rich.progress import Progress

    from prune_search.ledger.records import SearchRecords, TrialRecords
    from prune_search.search.next_trial import Listener

LOOK_EVERY_S = 0.2
# Larger figures, such as operations, are shown as whole numbers.
MAX_WITH_PLACES = 1000.0


class SearchBar:
    """Draws the progress of a search; without a terminal it prints a line per finished trial."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.console = progress.console
        self.task = progress.add_task("starting", total=None, note="")
        self.shown = 0.0

    def __call__(self, records: SearchRecords, ended: TrialRecords | None) -> None:
        """Show the current records."""
        counts = records.counts()
        done = ended_in(counts)
        total = records.definition["space"]["search"]["trials"]
        if ended is not None and not self.console.is_terminal:
            self.console.print(f"{done}/{total}  {_line(records, ended)}", highlight=False, soft_wrap=True)
        # With thousands of simulated trials, finding the best one on every update would take most of the time.
        now = time.monotonic()
        if now - self.shown < LOOK_EVERY_S and done < total:
            return
        self.shown = now
        saved = sum(account_of(trial).saved for trial in records.trials.values())
        unfinished = [trial for trial in records.trials.values() if trial.ended is None]
        # A trial that waits for training in another one has no worker.
        running = sum(trial.status == "running" for trial in unfinished)
        note = f"running {running}  waiting {len(unfinished) - running}  stopped {counts['stopped']}"
        note += f"  paused {counts['paused']}" if counts["paused"] else ""
        note += f"  failed {counts['failed']}  saved {saved:,} steps"
        best = _best(records)
        note += f"  best {best}" if best else ""
        self.progress.update(self.task, description=records.name, total=total, completed=done, note=note)


def _best(records: SearchRecords) -> str:
    best = winner_of(records).trial
    if best is None or best.proposed is None:
        return ""
    _, metric = _goals(records).objectives[0]
    return f"{best.proposed.data['name']} {_number(best.metrics[metric])}"


def _goals(records: SearchRecords) -> Goals:
    return Goals.of(records.definition["space"]["search"])


def _line(records: SearchRecords, trial: TrialRecords) -> str:
    """How a trial ended, with the figures of the objectives and the sparsity."""
    name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
    shown = dict.fromkeys([*(metric for _, metric in _goals(records).objectives), "sparsity"])
    known = {metric: trial.metrics[metric] for metric in shown if trial.metrics.get(metric) is not None}
    figures = "".join(f"  {metric} {_number(value)}" for metric, value in known.items())
    of_all = trial.metrics.get("sparsity/all_parameters")
    figures += "" if of_all is None or "sparsity/all_parameters" in known else f" ({of_all:.4f} of all parameters)"
    error = trial.ended.data["error"] if trial.ended is not None else None
    status = f"{trial.status} {where_paused(trial)}".rstrip()
    return f"{name}  {status}{figures}" + (f"  {error['kind']}: {error['message']}" if error else "")


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < MAX_WITH_PLACES else f"{value:,.0f}"


@contextlib.contextmanager
def watching_search(quiet: bool) -> Iterator[Listener | None]:
    """A listener that draws on standard error, or None. Warnings go to standard error as single lines."""
    with drawing(quiet) as progress:
        yield None if progress is None else SearchBar(progress)
