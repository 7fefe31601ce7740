"""Keeps a search's workers: they are started before the first trial ends, and one that has nothing to do waits.

Ray Tune drops a worker that is starting whenever another one becomes free, and one that is free where it has another.
So a search of trials that are shorter than a worker's start, whose trials wait for what the first one trains, would run
on one worker. Here the first trials end when all workers have started, and a worker without a trial runs a job that
does nothing, for a limited time, until it is woken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# A worker without work keeps its resources for so long at most, and a first trial waits for others so long.
PATIENCE_S = 20.0
LOOK_EVERY_S = 0.1


class Roll:
    """Which workers of a search have started, and which of its idle jobs are over; part of a cluster's register."""

    def __init__(self) -> None:
        self._started: dict[str, set[tuple[str, int]]] = {}
        self._woken: set[str] = set()

    def arrive(self, search: str, node: str, pid: int) -> int:
        """A worker of a search is there; how many are by now."""
        there = self._started.setdefault(search, set())
        there.add((node, pid))
        return len(there)

    def wake(self, idle: str) -> None:
        """An idle job is over."""
        self._woken.add(idle)

    def is_woken(self, idle: str) -> bool:
        """Whether an idle job is over; asked until it is."""
        return idle in self._woken

    def leave(self, search: str, idle: str) -> None:
        """An idle job has ended, or with an empty name the search has."""
        self._woken.discard(idle)
        if not idle:
            self._started.pop(search, None)


Ask = Callable[..., Any]


@dataclass
class KeptWorkers:
    """The workers of a search, as its driver sees them.

    Attributes:
        search: tells this search's workers from those of others.
        size: how many workers there are room and use for.
        ask: calls a method of the register, without waiting for the answer.
    """

    search: str
    size: int
    ask: Ask
    _idle: dict[str, str] = field(default_factory=dict)
    _woken: set[str] = field(default_factory=set)
    _since: float | None = None
    _number: int = 0

    @property
    def idle(self) -> int:
        """How many idle jobs run that were not woken."""
        return len(self._idle)

    @property
    def waking(self) -> bool:
        """Whether an idle job that was woken has not ended yet."""
        return bool(self._woken)

    def idle_job(self, trial_id: str, running: int) -> dict[str, Any] | None:
        """The config of a job that waits; None where there is no worker to keep, or it has waited long enough."""
        if running + self.idle >= self.size:
            return None
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        left = self._since + PATIENCE_S - now
        if left <= 0:
            return None
        self._number += 1
        name = f"{self.search}-{self._number}"
        self._idle[trial_id] = name
        return {"idle": {"search": self.search, "name": name, "seconds": left}}

    def wake(self, count: int) -> None:
        """End so many idle jobs."""
        for trial_id in list(self._idle)[:count]:
            self.ask("wake", self._idle.pop(trial_id))
            self._woken.add(trial_id)

    def ended(self, trial_id: str) -> None:
        """A job of Tune's is over: an idle one, or a trial, after which there may be work again."""
        if self._idle.pop(trial_id, None) is None and trial_id not in self._woken:
            self._since = None
        self._woken.discard(trial_id)


def wait_idly(idle: Mapping[str, Any], ask: Ask) -> None:
    """In a worker: import what trials need, and wait until there is one.

    Args:
        idle: from `KeptWorkers.idle_job`.
        ask: calls a method of the register and gives its answer; None where it is gone.
    """
    import importlib

    importlib.import_module("prune_search.search.ray.warm_up")
    arrive(idle["search"], ask)
    end = time.monotonic() + float(idle["seconds"])
    while time.monotonic() < end and ask("is_woken", idle["name"]) is False:
        time.sleep(LOOK_EVERY_S)
    ask("leave", idle["search"], idle["name"])


def arrive(search: str, ask: Ask) -> int:
    """In a worker: it is there. How many workers of the search are; 0 where the register is gone."""
    import ray

    return int(ask("arrive", search, ray.get_runtime_context().get_node_id(), os.getpid()) or 0)


def wait_for_all(search: str, size: int, ask: Ask) -> None:
    """In a worker, at the end of a trial: wait until all workers of the search have started, or for `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while 0 < arrive(search, ask) < size and time.monotonic() < end:
        time.sleep(LOOK_EVERY_S)
