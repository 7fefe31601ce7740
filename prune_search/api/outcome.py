"""How a search ended: its records as data, as a data frame, and as a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prune_search.ledger.account import total
from prune_search.ledger.finalists import finalists_data, winner_of
from prune_search.ledger.ranking import Goals
from prune_search.ledger.records import SearchRecords, TrialRecords

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        records: all records of the search.
        signal: the signal that ended it early, or None.
        undelivered: number of records that have not reached MLflow yet; `sync` delivers them.
        undelivered_reason: why they have not, on one line without passwords; empty if all have.
        parent_run_id: id of the search's run in MLflow, or None.
        wall_s: wall-clock duration in seconds.
    """

    records: SearchRecords
    signal: int | None
    undelivered: int
    parent_run_id: str | None
    wall_s: float
    undelivered_reason: str = ""

    def __repr__(self) -> str:
        """In one line; `as_data` and `frame` have the records."""
        ended = "" if self.signal is None else f", ended by signal {self.signal}"
        return f"Outcome(search {self.records.name}, {len(self.records.trials)} trials with controls{ended})"

    def frame(self) -> pandas.DataFrame:
        """One row for each trial, controls too: name, paradigm, status, key, what was drawn, and its metrics.

        Raises:
            UserError: pandas is not installed.
        """
        from prune_search.api.notebook import frame_of

        return frame_of([_row(trial) for trial in self.records.trials.values()])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from prune_search.api.notebook import page

        note = f"Interrupted. prune_search.resume({self.records.name!r}) continues it."
        return page(self.records, "" if self.signal is None else note)

    def as_data(self) -> dict[str, Any]:
        """The data of ``launch --json`` and ``resume --json``."""
        definition, counts = self.records.definition, self.records.counts()
        goals = Goals.of(definition["space"]["search"])
        figures = self.records.dense
        trials = self.records.numbered()
        winner = winner_of(self.records)
        best, met = winner.trial, winner.met
        everything = list(self.records.trials.values())
        return {
            "name": self.records.name,
            "storage": str(self.records.folder.parent.parent),
            "tracking_uri": self.records.tracking_uri,
            "experiment": definition["experiment"],
            "parent_run_id": self.parent_run_id,
            "trials": {
                "completed": counts["completed"],
                "stopped": counts["stopped"],
                **({"paused": counts["paused"]} if counts["paused"] else {}),
                "failed": counts["failed"],
                "duplicates": counts["duplicate"],
            },
            "best": None if best is None else _shortly(best),
            "constraints_met": met,
            **({"finalists": finalists_data(self.records, winner.finalists)} if winner.finalists else {}),
            "pareto": [_shortly(trial) for trial in goals.pareto(trials, figures)],
            **total(everything).as_data(),
            "undelivered": self.undelivered,
            "undelivered_reason": self.undelivered_reason,
            "wall_s": round(self.wall_s, 3),
        }


def _row(trial: TrialRecords) -> dict[str, Any]:
    data = {} if trial.proposed is None else trial.proposed.data
    about = {"trial": data.get("name", trial.id), "paradigm": data.get("paradigm"), "status": trial.status}
    about |= {"fidelity": trial.fidelity} if trial.low_fidelity else {}
    return {**about, "key": trial.result.get("key"), **data.get("params", {}), **trial.metrics}


def _shortly(trial: TrialRecords) -> dict[str, Any]:
    data = {} if trial.proposed is None else trial.proposed.data
    return {
        "key": trial.result.get("key"),
        "name": data.get("name"),
        "paradigm": data.get("paradigm"),
        "metrics": dict(trial.metrics),
    }
