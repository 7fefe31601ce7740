"""Draws the progress of a search: how far it is, the best so far and the front. Trials that ended scroll by above."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from prune_search.cli.drawing import warnings_on
from prune_search.cli.status import duration
from prune_search.ledger.finalists import winner_of
from prune_search.ledger.pauses import where_paused
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import ended_in
from prune_search.recipe.metric_names import quality
from prune_search.report.status import seconds_left

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prune_search.ledger.records import SearchRecords, TrialRecords
    from prune_search.search.next_trial import Listener

LOOK_EVERY_S = 0.2
REFRESHES_PER_S = 4
# Larger figures, such as operations, are shown as whole numbers.
MAX_WITH_PLACES = 1000.0
BAR_WIDTH = (6, 30)
WHY_STOPPED = "others were better at the same maturity"


@dataclass
class SearchDisplay:
    """What stands at the foot of a terminal while a search runs; without a terminal, a line per trial that ended.

    Attributes:
        console: where it is drawn.
        clock: seconds since the epoch.
        counts: finished, running and waiting trials, and how many there are in all; None before the first look.
        best: the name of the best trial so far and its figures.
        front: (sparsity, figure) of trials that no other beats in both, the sparsest first.
        others: how many failed and how many are paused.
        until: when the search is expected to end, seconds since the epoch; None where nothing is known.
    """

    console: Console
    clock: Callable[[], float] = time.time
    name: str = "starting"
    counts: tuple[int, int, int, int] | None = None
    best: tuple[str, str] | None = None
    front: list[tuple[float, float]] = field(default_factory=list)
    others: tuple[int, int] = (0, 0)
    until: float | None = None
    looked: float = 0.0

    def __call__(self, records: SearchRecords, ended: TrialRecords | None) -> None:
        """Take up the current records; `ended` is the trial that has just ended, if one has."""
        counts = records.counts()
        done, total = ended_in(counts), records.definition["space"]["search"]["trials"]
        if ended is not None:
            self._print_ended(f"{done}/{total}", records, ended)
        # With thousands of simulated trials, finding the best one on every update would take most of the time.
        now, first = self.clock(), self.counts is None
        self.counts = (done, *_open(records, total - done), total)
        self.others = counts["failed"], counts["paused"]
        if not first and now - self.looked < LOOK_EVERY_S and done < total:
            return
        self.looked, self.name = now, records.name
        self.best, self.front = _best(records), _front(records)
        left = seconds_left(records, now)
        self.until = None if left is None else now + left

    def _print_ended(self, count: str, records: SearchRecords, ended: TrialRecords) -> None:
        """A line of a trial; where a terminal is too narrow for it, without what `compare` says as well."""
        lines = [f"{count}  {_line(records, ended)}"]
        if not self.console.is_terminal:
            self.console.print(lines[0], highlight=False, soft_wrap=True, markup=False)
            return
        lines += [f"{count}  {_line(records, ended, short)}" for short in (("share",), ("share", "status"))]
        line = next((line for line in lines if len(line) <= self.console.width), lines[-1])
        self.console.print(line, highlight=False, markup=False)

    def drawn(self) -> RenderableType:
        """The lines, none wider than the terminal."""
        lines: list[RenderableType] = [self._how_far()]
        if self.best is not None:
            lines.append(Text.assemble(("best   ", "dim"), (self.best[0], "bold"), f"  {self.best[1]}"))
        if self.front:
            lines.append(self._shown_front())
        for line in lines:
            if isinstance(line, Text):
                line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def _how_far(self) -> RenderableType:
        if self.counts is None:
            return Text(f"{self.name} …")
        done, running, waiting, total = self.counts
        told = f"{done}/{total} finished  {running} running  {waiting} waiting"
        told += "".join(
            f"  {count} {what}" for count, what in zip(self.others, ("failed", "paused"), strict=True) if count
        )
        if self.until is not None:
            told += f"  {duration(max(0.0, self.until - self.clock()))} left"
        room = self.console.width - len(self.name) - len(told) - 4
        width = min(BAR_WIDTH[1], max(BAR_WIDTH[0], room))
        row = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(3):
            row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(escape(self.name), ProgressBar(total=total, completed=done, width=width), told)
        return row

    def _shown_front(self) -> Text:
        """``sparsity: figure`` of as many points as there is room for, and how many there are besides."""
        text = Text.assemble(("front  ", "dim"))
        for place, (sparsity, value) in enumerate(self.front):
            part = f"{sparsity:.1%}: {_number(value)}  "
            left = len(self.front) - place
            if text.cell_len + len(part) + len(f"and {left} more") > self.console.width:
                text.append(f"and {left} more", style="dim")
                break
            text.append(part)
        return text


def _open(records: SearchRecords, left: int) -> tuple[int, int]:
    """How many trials and controls run, and how many of the `left` trials wait."""
    # Records of a search that runs here are read when a trial ends, so that they do not say which ones have begun.
    known = {key for key, trial in records.trials.items() if trial.status == "running"}
    running = known if records.at_work is None else records.at_work
    return len(running), max(0, left - sum(not records.trials[key].control for key in running))


def _best(records: SearchRecords) -> tuple[str, str] | None:
    best = winner_of(records).trial
    if best is None or best.proposed is None:
        return None
    return best.proposed.data["name"], _figures(records, best)


def _front(records: SearchRecords) -> list[tuple[float, float]]:
    """Sparsity and quality of the completed trials that no other beats in both, the sparsest first."""
    way, metric = quality(_goals(records).objectives)
    known = [(t.metrics.get("sparsity"), t.metrics.get(metric)) for t in records.numbered() if t.status == "completed"]
    points = sorted(((s, v) for s, v in known if s is not None and v is not None), key=lambda p: -p[0])
    sign = 1.0 if way == "maximize" else -1.0
    found: list[tuple[float, float]] = []
    for sparsity, value in points:
        if not found or sign * value > sign * found[-1][1]:
            if found and found[-1][0] == sparsity:
                found.pop()
            found.append((sparsity, value))
    return found


def _goals(records: SearchRecords) -> Goals:
    return Goals.of(records.definition["space"]["search"])


def _line(records: SearchRecords, trial: TrialRecords, without: Collection[str] = ()) -> str:
    """How a trial ended, and why if not by itself, with the figures of the objectives and the sparsity.

    Args:
        records: of the search.
        trial: that ended.
        without: what is left out: ``share`` (of all parameters), ``status`` (where the trial completed).
    """
    name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
    error = trial.ended.data["error"] if trial.ended is not None else None
    reason = f"  {error['kind']}: {error['message']}" if error else ""
    if trial.status == "stopped":
        step = trial.metrics.get("steps_trained")
        reason = f"  at step {step:,.0f}: {WHY_STOPPED}" if step else f"  {WHY_STOPPED}"
    figures = _figures(records, trial, share="share" not in without)
    status = f"{trial.status} {where_paused(trial)}".rstrip()
    if "status" in without and trial.status == "completed":
        status = ""
    return "  ".join(filter(None, (name, status, figures))) + reason


def _figures(records: SearchRecords, trial: TrialRecords, share: bool = True) -> str:
    shown = dict.fromkeys([*(metric for _, metric in _goals(records).objectives), "sparsity"])
    known = {metric: trial.metrics[metric] for metric in shown if trial.metrics.get(metric) is not None}
    figures = "  ".join(f"{metric} {_number(value)}" for metric, value in known.items())
    of_all = trial.metrics.get("sparsity/all_parameters")
    if not share or of_all is None or "sparsity/all_parameters" in known:
        return figures
    return f"{figures} ({of_all:.4f} of all parameters)"


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < MAX_WITH_PLACES else f"{value:,.0f}"


@contextlib.contextmanager
def watching_search(quiet: bool) -> Iterator[Listener | None]:
    """A listener that draws on standard error, or None. Warnings go to standard error as single lines."""
    console = Console(stderr=True)
    with warnings_on(console):
        if quiet:
            yield None
            return
        display = SearchDisplay(console)
        if not console.is_terminal:
            yield display
            return
        from rich.live import Live

        with Live(console=console, get_renderable=display.drawn, refresh_per_second=REFRESHES_PER_S, transient=True):
            yield display
