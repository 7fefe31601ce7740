"""What a notebook shows of a search: a progress bar and a table, redrawn while it runs, and data frames."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import ended_in
from prune_search.recipe.problems import Problem, UserError

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

    from prune_search.ledger.records import SearchRecords, TrialRecords

LOOK_EVERY_S = 1.0
SHOWN = 10
_CELL = "text-align:left;padding:2px 10px"


def in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, which can draw."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def notebook_view() -> SearchView | None:
    """What draws a search in this notebook; None elsewhere."""
    if not in_notebook():
        return None
    # Not everybody has it, and what is installed of it is typed in part.
    shown = importlib.import_module("IPython.display")
    handle = shown.display(shown.HTML("<p>starting …</p>"), display_id=True)
    return SearchView(lambda text: handle.update(shown.HTML(text)))


class SearchView:
    """Draws the progress of a search as HTML.

    Args:
        draw: is given the whole text, whenever it is another.
    """

    def __init__(self, draw: Callable[[str], object]) -> None:
        self._draw = draw
        self._drawn_at = 0.0

    def __call__(self, records: SearchRecords, ended: TrialRecords | None) -> None:
        """Show the current records."""
        now = time.monotonic()
        if now - self._drawn_at >= LOOK_EVERY_S or ended_in(records.counts()) >= _asked(records):
            self._drawn_at = now
            self._draw(page(records))


def page(records: SearchRecords, note: str = "") -> str:
    """A bar, a note where there is one, and the best trials so far."""
    counts, total = records.counts(), _asked(records)
    done = ended_in(counts)
    words = [f"{counts[name]} {name}" for name in ("running", "stopped", "paused", "failed") if counts.get(name)]
    bar = f'<progress value="{min(done, total)}" max="{max(1, total)}" style="width:20em"></progress>'
    head = f"<p><b>{escape(records.name)}</b> {bar} {done} of {total}{''.join(f', {word}' for word in words)}</p>"
    return head + (f"<p>{escape(note)}</p>" if note else "") + table(records)


def _asked(records: SearchRecords) -> int:
    """How many trials there are to be."""
    return int(records.definition["space"]["search"]["trials"])


def table(records: SearchRecords) -> str:
    """The best trials, with the figures of the objectives, as HTML."""
    goals = Goals.of(records.definition["space"]["search"])
    names = list(dict.fromkeys([*(metric for _, metric in goals.objectives), "sparsity"]))
    done = [trial for trial in records.numbered() if trial.status == "completed"]
    ranked = sorted(done, key=lambda trial: goals.order(trial, records.dense))
    if not ranked:
        return ""
    heads = "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in ("trial", *names))
    rows = []
    for trial in ranked[:SHOWN]:
        name = trial.proposed.data["name"] if trial.proposed is not None else trial.id
        figures = (trial.metrics.get(metric) for metric in names)
        cells = [str(name), *("" if figure is None else f"{figure:.4f}" for figure in figures)]
        rows.append("<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in cells) + "</tr>")
    more = f"<p>{len(ranked) - SHOWN} more</p>" if len(ranked) > SHOWN else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}"


def frame_of(rows: list[Mapping[str, Any]]) -> pandas.DataFrame:
    """Trials as a data frame.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError([Problem("frame", "needs pandas: pip install pandas")]) from error
    return pandas.DataFrame(rows)
