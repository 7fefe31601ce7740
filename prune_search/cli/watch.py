"""The progress of a search in the terminal: trials done, running, failed, best so far, steps saved, time left."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from prune_search.trial.records import SearchRecords, TrialRecords

Listener = Callable[["SearchRecords", "TrialRecords | None"], None]


class SearchBar:
    """Draws the course of a search; on anything but a terminal it writes a line per ended trial."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self.progress = progress
        self.console = console
        self.task = progress.add_task("starting Ray", total=None, note="")

    def __call__(self, records: SearchRecords, ended: TrialRecords | None) -> None:
        """Show the records as they are now."""
        counts = records.counts()
        done = sum(counts[name] for name in ("completed", "stopped", "failed", "duplicate"))
        total = records.definition["space"]["search"]["trials"]
        saved = sum(int(t.ended.data["steps_saved"]) for t in records.trials.values() if t.ended is not None)
        running = sum(t.ended is None for t in records.trials.values())
        note = f"running {running}  stopped {counts['stopped']}  failed {counts['failed']}  saved {saved:,} steps"
        best = _best(records)
        note += f"  best {best}" if best else ""
        self.progress.update(self.task, description=records.name, total=total, completed=done, note=note)
        if ended is not None and not self.console.is_terminal:
            self.console.print(f"{done}/{total}  {_line(ended)}", highlight=False, soft_wrap=True)


def _best(records: SearchRecords) -> str:
    from prune_search.trial.ranking import Goals

    dense = records.trials.get("control-dense")
    goals = Goals.of(records.definition["space"]["search"])
    best, _ = goals.best(records.numbered(), dense.metrics if dense is not None and dense.result else None)
    if best is None or best.proposed is None:
        return ""
    return f"{best.proposed.data['name']} {best.metrics.get('val/accuracy', float('nan')):.4f}"


def _line(trial: TrialRecords) -> str:
    name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
    accuracy, sparsity = trial.metrics.get("val/accuracy"), trial.metrics.get("sparsity")
    figures = "" if accuracy is None else f"  val/accuracy {accuracy:.4f}"
    figures += "" if sparsity is None else f"  sparsity {sparsity:.4f}"
    error = trial.ended.data["error"] if trial.ended is not None else None
    return f"{name}  {trial.status}{figures}" + (f"  {error['kind']}: {error['message']}" if error else "")


@contextlib.contextmanager
def watching_search(quiet: bool) -> Iterator[Listener | None]:
    """A listener that draws on standard error, or None; warnings go to standard error as single lines."""
    console = Console(stderr=True)
    logger = logging.getLogger("prune_search")
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logger.addHandler(handler)
    try:
        if quiet:
            yield None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            yield SearchBar(progress, console)
    finally:
        logger.removeHandler(handler)
