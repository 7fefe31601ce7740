"""Whether a search runs, was interrupted or has finished: one answer for the terminal and for MLflow."""

from __future__ import annotations

from typing import Literal

from prune_search.ledger.records import ENDED_FILE, SearchRecords

State = Literal["running", "finished", "interrupted"]


def state_of(search: SearchRecords, is_running: bool = False) -> State:
    """The state of a search.

    It has finished where all trials and controls that were begun have ended, and either all that were planned were
    begun, or the search said itself that it was over.

    Args:
        search: its records.
        is_running: whether a living process runs it.
    """
    if is_running:
        return "running"
    asked = search.definition["space"]["search"]["trials"]
    ended = all(trial.ended is not None for trial in search.trials.values())
    enough = len(search.numbered()) >= asked or (search.folder / ENDED_FILE).is_file()
    return "finished" if ended and enough else "interrupted"
