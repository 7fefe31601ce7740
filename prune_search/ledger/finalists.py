"""The finalists of a search: its best recipes, repeated on new seeds, so that luck does not choose. No torch.

The measurement that made a recipe a finalist is the best of many, and therefore lucky: the mean of a finalist is that
of the new seeds alone. All finalists have the same new seeds, so that they share what they can.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_search.ledger.ranking import Dense, Goals
from prune_search.ledger.records import FINALIST, Record, SearchRecords, TrialRecords
from prune_search.recipe.recipe import canonical_json

# The new seeds count from here, past those that people write.
FIRST_SEED = 1001
# Deviations between two means that seeds alone seldom make: 95 % of a normal distribution.
APART = 1.96


@dataclass(frozen=True)
class Finalist:
    """A recipe that was repeated.

    Attributes:
        trial: the trial that made it a finalist.
        repeats: the trials on new seeds that completed, in the order of the seeds.
        failed: how many did not.
    """

    trial: TrialRecords
    repeats: tuple[TrialRecords, ...]
    failed: int = 0

    def figures(self, metric: str) -> list[float]:
        """What was measured on the new seeds."""
        found = [trial.metrics.get(metric) for trial in self.repeats]
        return [float(value) for value in found if isinstance(value, int | float) and math.isfinite(value)]

    def mean(self, metric: str) -> float | None:
        """Over the new seeds; None where nothing was measured."""
        figures = self.figures(metric)
        return statistics.fmean(figures) if figures else None

    def deviation(self, metric: str) -> float | None:
        """The sample standard deviation over the new seeds; None with less than two."""
        figures = self.figures(metric)
        return statistics.stdev(figures) if len(figures) > 1 else None

    def stand_in(self) -> TrialRecords:
        """The trial with the means in the place of its own figures, for what judges trials."""
        trial = self.trial
        assert trial.ended is not None
        means = {name: self.mean(name) for name in trial.metrics}
        metrics = {name: value for name, value in means.items() if value is not None}
        result = {**trial.result, "metrics": metrics}
        ended = Record(trial.id, "ended", 1, 0, trial.ended.time, {**trial.ended.data, "result": result})
        return TrialRecords(trial.id, trial.proposed, list(trial.attempts), [], ended)

    def like(self, other: Finalist, metric: str) -> bool:
        """Whether seeds explain the difference of two means: it is within 1.96 of its standard errors.

        Also where one of them has less than two figures, so that nothing is known of its seeds.
        """
        mine, theirs = self.figures(metric), other.figures(metric)
        if len(mine) < 2 or len(theirs) < 2:
            return True
        error = math.sqrt(statistics.variance(mine) / len(mine) + statistics.variance(theirs) / len(theirs))
        return abs(statistics.fmean(mine) - statistics.fmean(theirs)) <= APART * error


@dataclass(frozen=True)
class Winner:
    """What a search ends with.

    Attributes:
        trial: the one that it recommends, or None while nothing has completed.
        met: whether it meets the constraints; a finalist by its means.
        finalists: the best first; empty where none were asked for, or not all have been repeated yet.
    """

    trial: TrialRecords | None
    met: bool
    finalists: tuple[Finalist, ...] = ()


def finalist_id(trial: str, seed: int) -> str:
    """The id of a finalist's repetition."""
    return f"{FINALIST}{trial}-{seed}"


def without_seed(recipe: Mapping[str, Any]) -> str:
    """What two canonical recipes have in common that differ only in task.seed."""
    task = {key: value for key, value in recipe.get("task", {}).items() if key != "seed"}
    return canonical_json({**recipe, "task": task})


def on_seed(recipe: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A canonical recipe with another seed."""
    return {**recipe, "task": {**recipe["task"], "seed": seed}}


def new_seeds(trials: Sequence[TrialRecords], count: int) -> list[int]:
    """Seeds that no trial has, from 1001 on."""
    taken = {trial.recipe.get("task", {}).get("seed") for trial in trials}
    return [seed for seed in range(FIRST_SEED, FIRST_SEED + count + len(taken)) if seed not in taken][:count]


def chosen_finalists(trials: Sequence[TrialRecords], goals: Goals, dense: Dense, count: int) -> list[TrialRecords]:
    """The best trials, the best first; of those that differ only in the seed, one.

    Args:
        trials: of one search, without controls, with the figures by which they are judged.
        goals: objectives and constraints.
        dense: metrics of the dense network; None while they are not known.
        count: at most so many.
    """
    done = [trial for trial in trials if trial.status == "completed" and goals.values(trial.metrics) is not None]
    found: dict[str, TrialRecords] = {}
    for trial in sorted(done, key=lambda trial: goals.order(trial, dense)):
        found.setdefault(without_seed(trial.recipe), trial)
    return list(found.values())[:count]


@dataclass(frozen=True)
class Choice:
    """Which trials are repeated on which seeds, as each repetition notes it.

    Attributes:
        among: how many trials they were chosen from.
        finalists: the trials' ids, the best first.
        seeds: the new ones.
    """

    among: int
    finalists: tuple[str, ...]
    seeds: tuple[int, ...]

    def as_data(self) -> dict[str, Any]:
        """As a repetition's record has it."""
        return {"among": self.among, "finalists": list(self.finalists), "seeds": list(self.seeds)}


def noted(search: SearchRecords) -> Choice | None:
    """The finalists as the last repetition notes them: others than before where trials were added to a search."""
    notes = [trial.proposed for trial in search.trials.values() if trial.repetition and trial.proposed is not None]
    if not notes:
        return None
    last = max(notes, key=lambda note: (note.time, note.trial)).data
    return Choice(last["among"], tuple(last["finalists"]), tuple(last["seeds"]))


def finalists_of(search: SearchRecords) -> list[Finalist]:
    """The finalists, once all their repetitions have ended; before that none."""
    choice = noted(search)
    if choice is None:
        return []
    found = []
    for identity in choice.finalists:
        repeats = [search.trials.get(finalist_id(identity, seed)) for seed in choice.seeds]
        if identity not in search.trials or any(repeat is None or repeat.ended is None for repeat in repeats):
            return []
        done = tuple(repeat for repeat in repeats if repeat is not None and repeat.status == "completed")
        found.append(Finalist(search.trials[identity], done, len(repeats) - len(done)))
    return found


def finalists_data(search: SearchRecords, finalists: Sequence[Finalist]) -> list[dict[str, Any]]:
    """The finalists as ``--json`` has them, the best first.

    Returns:
        For each its ``name``, ``key``, ``trial``, how many ``seeds`` completed and how many ``failed``; by metric of
        the goals what was ``measured`` when it was a trial, and ``mean``, ``deviation`` and ``figures`` on the new
        seeds; and whether seeds explain its distance from the first (``like_best``).
    """
    goals = Goals.of(search.definition["space"]["search"])
    metrics = dict.fromkeys(
        (*(metric for _, metric in goals.objectives), *(metric for metric, _, _ in goals.constraints))
    )
    leading = goals.objectives[0][1]
    return [
        {
            "name": one.trial.proposed.data["name"] if one.trial.proposed else one.trial.id,
            "key": one.trial.result.get("key"),
            "trial": one.trial.id,
            "seeds": len(one.repeats),
            "failed": one.failed,
            "metrics": {
                metric: {
                    "measured": one.trial.metrics.get(metric),
                    "mean": one.mean(metric),
                    "deviation": one.deviation(metric),
                    "figures": one.figures(metric),
                }
                for metric in metrics
            },
            "like_best": one is finalists[0] or one.like(finalists[0], leading),
        }
        for one in finalists
    ]


def winner_of(search: SearchRecords) -> Winner:
    """The trial that a search recommends: the finalist with the best means, else the best that was measured."""
    goals, dense = Goals.of(search.definition["space"]["search"]), search.dense
    repeated = [one for one in finalists_of(search) if one.repeats]
    judged = {one.trial.id: one.stand_in() for one in repeated}
    judged = {identity: trial for identity, trial in judged.items() if goals.values(trial.metrics) is not None}
    if not judged:
        return Winner(*goals.best(search.numbered(), dense))
    best, met = goals.best(list(judged.values()), dense)
    if best is None:
        return Winner(*goals.best(search.numbered(), dense))
    ordered = sorted(
        (one for one in repeated if one.trial.id in judged), key=lambda one: goals.order(judged[one.trial.id], dense)
    )
    return Winner(next(one.trial for one in ordered if one.trial.id == best.id), met, tuple(ordered))
