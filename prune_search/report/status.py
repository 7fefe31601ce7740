"""The progress of a search, computed from its records alone. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from prune_search.ledger.account import total
from prune_search.ledger.cluster_status import read_machines
from prune_search.ledger.fidelities import fidelity_data
from prune_search.ledger.finalists import winner_of
from prune_search.ledger.pauses import paused_counts
from prune_search.ledger.records import (
    SearchRecords,
    TrialRecords,
    list_searches,
    read_search,
    search_folder,
)
from prune_search.ledger.state import state_of
from prune_search.ledger.uris import masked
from prune_search.recipe.problems import UserError
from prune_search.recipe.search_block import parse_objective
from prune_search.report.rows import seen_by_a_search
from prune_search.storage.places import StoragePath

RUNNING, FINISHED, UNREADABLE = "running", "finished", "unreadable"
# Trials whose mean time stands for those to come; controls of a search.
RECENT, CONTROLS = 10, 3


def status_data(search: SearchRecords, is_running: bool, now: float | None = None) -> dict[str, Any]:
    """What ``status --json`` prints.

    Args:
        search: its records.
        is_running: whether a living process holds the search's lease.
        now: seconds since the epoch; None: the clock's.

    Returns:
        ``name``; ``state``, one of running, interrupted, finished; ``trials``, how many of each status, where waiting
        ones are those that are still to be run; ``planned``; ``paused``, how many trials rest where, if any do;
        ``controls``, each with its status; ``fidelities``, what low-fidelity trials told, where the search has any (see
        `ledger.fidelities.fidelity_data`); ``best``, or None;
        ``failures``, the errors; ``retried``, attempts after one that did not end (see `TrialRecords.retries`);
        ``waits``, how many begun trials wait ``for_training`` that another one does, and ``for_device``, a whole one;
        ``machines``, the cluster (see `ledger.cluster_status.Machines`), None where nothing runs; ``steps_trained``,
        ``steps_saved``, ``steps_replayed``, ``steps_repeated`` and ``steps_abandoned`` of all trials, controls too (see
        `trial.account.Account`); ``simulated``, the surface that stands in for training, or None;
        ``seconds_waiting``, of a step for data, None where none is read while training goes on;
        ``seconds_left``, an estimate, None where nothing is known or nothing runs; ``created``, epoch seconds;
        ``objectives``, their metrics; ``tracking_uri``, its MLflow's, without passwords.
    """
    block = search.definition["space"]["search"]
    state = state_of(search, is_running)
    trials = [trial for trial in search.trials.values() if trial.ended is not None]
    failed = [trial for trial in trials if trial.status == "failed"]
    return {
        "name": search.name,
        "state": state,
        "task": dict(search.definition.get("task", {})),
        "trials": _counts(search, state, block["trials"]),
        "simulated": search.simulated,
        "planned": block["trials"],
        **({"paused": paused} if (paused := paused_counts(search)) else {}),
        "controls": {trial.id: trial.status for trial in search.controls()},
        **({"fidelities": fidelities} if (fidelities := fidelity_data(search)) else {}),
        "best": _best(search),
        "failures": [_failure(trial) for trial in failed],
        "retried": sum(trial.retries for trial in search.trials.values()),
        "waits": _waits(search),
        "machines": _machines(search, now) if state == RUNNING else None,
        **total(search.trials.values()).as_data(),
        "seconds_waiting": _waiting(search),
        "seconds_left": seconds_left(search, time.time() if now is None else now) if state == RUNNING else None,
        "created": search.definition.get("created"),
        "objectives": [parse_objective(written)[1] for written in block["objectives"]],
        "tracking_uri": masked(search.tracking_uri),
    }


def list_data(storage: StoragePath, is_running: Callable[[StoragePath], bool]) -> list[dict[str, Any]]:
    """`status_data` of every search in a storage; one that cannot be read has the state unreadable and an ``error``.

    Args:
        storage: need not exist.
        is_running: whether a living process runs the search in a folder.
    """
    rows = []
    for name in list_searches(storage):
        try:
            folder = search_folder(storage, name)
            rows.append(status_data(read_search(folder), is_running(folder)))
        except (UserError, LookupError, TypeError, ValueError) as error:
            rows.append({"name": name, "state": UNREADABLE, "error": " ".join(str(error).split())})
    return rows


def _counts(search: SearchRecords, state: str, planned: int) -> dict[str, int]:
    found = search.counts()
    ended = {
        "completed": found["completed"],
        "stopped": found["stopped"],
        **({"paused": found["paused"]} if found["paused"] else {}),
        "failed": found["failed"],
        "duplicates": found["duplicate"],
    }
    # What a search that is interrupted had begun runs no more; it waits to be resumed.
    running = found["running"] if state == RUNNING else 0
    left = 0 if state == FINISHED else max(0, planned - sum(ended.values()) - running)
    return {**ended, "running": running, "waiting": left}


def _waits(search: SearchRecords) -> dict[str, int]:
    """What trials wait for that gave their place up."""
    last = [
        trial.progress.get(trial.attempts[-1].attempt)
        for trial in search.trials.values()
        if trial.ended is None and trial.attempts
    ]
    found = [progress for progress in last if progress is not None and progress.put_off]
    alone = sum(progress.oom for progress in found)
    return {"for_training": len(found) - alone, "for_device": alone}


def _machines(search: SearchRecords, now: float | None) -> dict[str, Any] | None:
    found = read_machines(search.folder, now)
    return None if found is None else asdict(found)


def _best(search: SearchRecords) -> dict[str, Any] | None:
    winner = winner_of(search)
    trial, met = winner.trial, winner.met
    if trial is None or trial.proposed is None:
        return None
    return {
        "key": trial.result.get("key"),
        "id": trial.id,
        "name": trial.proposed.data["name"],
        "paradigm": trial.proposed.data["paradigm"],
        "metrics": seen_by_a_search(trial.metrics),
        "constraints_met": met,
    }


def _failure(trial: TrialRecords) -> dict[str, Any]:
    error = (trial.ended.data.get("error") if trial.ended else None) or {}
    name = trial.proposed.data["name"] if trial.proposed else trial.id
    return {"id": trial.id, "name": name, "kind": error.get("kind", ""), "message": error.get("message", "")}


def _waiting(search: SearchRecords) -> float | None:
    """Seconds that a trained step has waited for data, which is read while training goes on; None where it is not."""
    results = [trial.result for trial in search.trials.values() if trial.result.get("seconds_waiting")]
    steps = sum(result.get("steps_trained", 0) for result in results)
    return sum(result["seconds_waiting"] for result in results) / steps if steps else None


def seconds_left(search: SearchRecords, now: float) -> float | None:
    """Seconds of what is left to run: trials at the mean of the last ones that ran, controls and repetitions too.

    Args:
        search: its records.
        now: seconds since the epoch.

    Returns:
        An estimate; None where no trial has run yet.
    """
    block = search.definition["space"]["search"]
    numbered = search.numbered()
    ran = [t for t in numbered if t.ended is not None and t.duplicate_of is None and t.ended.data.get("seconds")]
    if not ran:
        return None
    # Later trials find more that is stored: the last ones tell more than the first.
    last = sorted(ran, key=lambda trial: trial.ended.time if trial.ended else 0.0)[-RECENT:]
    mean = sum(trial.ended.data["seconds"] for trial in last if trial.ended) / len(last)
    left = max(0, block["trials"] - sum(trial.ended is not None for trial in numbered)) + _besides(search, block)
    begun = [trial.attempts[-1].time for trial in numbered if trial.status == "running"]
    spent = sum(min(max(0.0, now - time_begun), mean) for time_begun in begun)
    return float(max(0.0, mean * left - spent) / min(block["concurrency"], max(1, left)))


def _besides(search: SearchRecords, block: Any) -> int:
    """Controls and repetitions of finalists that have not ended."""
    controls = (
        CONTROLS - sum(trial.ended is not None for trial in search.controls()) if block.get("controls", True) else 0
    )
    finalists = block.get("finalists") or {}
    wanted = int(finalists.get("count", 0)) * int(finalists.get("seeds", 0))
    repeated = sum(trial.ended is not None and trial.repetition for trial in search.trials.values())
    return max(0, controls) + max(0, wanted - repeated)
