"""The progress bar of a run: loss, accuracy, sparsity, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from prune_search.cli.drawing import drawing
from prune_search.recipe.metric_names import lead
from prune_search.trial.callbacks import Observation, Silent, Sink

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch import Tensor

    from prune_search.trial.result import RoundResult

LOSS_EVERY_S = 0.2


class Bar:
    """Draws what a trial reports; without a terminal it prints a line per round."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.console = progress.console
        self.task = progress.add_task("reading data", total=None, note="")
        self.total = 0
        self.before = 0
        self.shown = 0.0
        self.note = ""

    def started(self, key: str, total: int) -> None:
        """Show the total number of steps."""
        self.total = total
        self.progress.update(self.task, total=total)

    def stage(self, name: str, total: int) -> None:
        """Show the segment that begins."""
        self.before = int(self.progress.tasks[0].completed)
        self.first: int | None = None
        self.progress.update(self.task, description=name)

    def step(self, step: int, total: int, loss: Tensor) -> None:
        """Count a step. The loss [] is read only now and then, because reading it waits for the device."""
        self.first = step - 1 if self.first is None else self.first
        now = time.monotonic()
        if now - self.shown >= LOSS_EVERY_S or step == total:
            self.shown = now
            done = min(self.before + step - self.first, self.total)
            self.progress.update(self.task, completed=done, note=f"loss {float(loss.detach()):.3f}{self.note}")

    def observe_at(self, total: int, epoch: int, settled: int) -> Collection[int]:
        """Once per epoch, and at most twenty times."""
        return range(0, total, epoch * max(1, total // epoch // 20))

    def observed(self, seen: Observation) -> None:
        """Show the progress of the retraining."""
        name = lead(seen.metrics)
        self.note = f"  {name} {seen.metrics[name]:.4f}  sparsity {seen.sparsity:.4f}"

    def round_done(self, result: RoundResult) -> None:
        """Show the result of a round."""
        name = lead(result.metrics)
        figure = result.metrics.get(name, float("nan"))
        self.note = f"  {name} {figure:.4f}  sparsity {result.receipt.reached:.4f}"
        trained = int(result.metrics.get("steps_trained", 0))
        self.progress.update(self.task, completed=min(trained, self.total), note=self.note.strip())
        if not self.console.is_terminal:
            self.console.print(f"round {result.number}: {self.note.strip()}", highlight=False)

    def reached(self, place: str, step: int) -> None:
        """Draw nothing."""


@contextlib.contextmanager
def watching(quiet: bool) -> Iterator[Sink]:
    """A sink that draws on standard error, or a silent one. Warnings go to standard error as single lines."""
    with drawing(quiet) as progress:
        yield Silent() if progress is None else Bar(progress)
