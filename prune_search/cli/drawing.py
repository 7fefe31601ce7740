"""Draws progress on standard error, with the package's warnings as single lines above it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

BAR_WIDTH = 24


@contextlib.contextmanager
def warnings_on(console: Console) -> Iterator[None]:
    """The package's warnings as single lines on a console."""
    logger = logging.getLogger("prune_search")
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def drawing(quiet: bool) -> Iterator[Progress | None]:
    """A progress display whose tasks have a `note` field, or None if nothing should be drawn."""
    console = Console(stderr=True)
    with warnings_on(console):
        if quiet:
            yield None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            yield progress
