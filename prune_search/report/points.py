"""Every round of a chain as a result of its own: a chain of twelve rounds gives twelve points for the cost of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_search.ledger.ranking import Dense, Goals
from prune_search.ledger.records import Record, SearchRecords, TrialRecords
from prune_search.recipe.metric_names import lead


@dataclass(frozen=True)
class Point:
    """The network after a round before the last of a trial.

    Attributes:
        search: the name of the search.
        trial: whose chain it lies on.
        data: the round as the trial's result has it.
    """

    search: str
    trial: TrialRecords
    data: dict[str, Any]

    def stand_in(self) -> TrialRecords:
        """A trial whose result is this round's, for what judges trials."""
        trial = self.trial
        ended = trial.ended
        if ended is None:
            return trial
        # A network of its own, or the front takes the round and the trial's last one for the same.
        key = f"{trial.result.get('key')}#{self.data['round']}"
        result = {**trial.result, "key": key, "metrics": self.data["metrics"]}
        record = Record(trial.id, "ended", 1, 0, ended.time, {**ended.data, "result": result})
        return TrialRecords(f"{self.search}/{trial.id}#{self.data['round']}", trial.proposed, [], [], record)

    def as_data(self, pareto: bool) -> dict[str, Any]:
        """The point as ``compare --json`` has it."""
        name = self.trial.proposed.data["name"] if self.trial.proposed is not None else self.trial.id
        return {
            "search": self.search,
            "id": self.trial.id,
            "name": name,
            "key": self.trial.result.get("key"),
            "round": self.data["round"],
            "rounds": self.trial.recipe.get("rounds"),
            "metrics": {key: value for key, value in self.data["metrics"].items() if value is not None},
            "pareto": pareto,
        }


def earlier_rounds(searches: Sequence[SearchRecords]) -> list[Point]:
    """The rounds before the last of all completed trials, each network once.

    Trials that share their rounds show them once, and a round that is another trial's last is left to that trial.
    """
    seen = {_network(trial.result) for search in searches for trial in _completed(search)}
    found: list[Point] = []
    for search in searches:
        for trial in _completed(search):
            for data in trial.result.get("rounds", [])[:-1]:
                if (network := _network(data)) not in seen:
                    seen.add(network)
                    found.append(Point(search.name, trial, data))
    return found


def _completed(search: SearchRecords) -> Iterator[TrialRecords]:
    return (t for t in search.numbered() if t.status == "completed" and t.result)


def _network(data: Any) -> tuple[Any, ...]:
    """What tells two networks apart here: the mask, and what was measured."""
    metrics = data["metrics"]
    return data["mask_sha256"], metrics.get(lead(metrics)), metrics.get("val/loss"), metrics.get("steps_trained")


def points_data(
    searches: Sequence[SearchRecords],
    finals: Sequence[TrialRecords],
    goals: Goals,
    dense: Dense,
    keeps: Callable[[Mapping[str, Any]], bool] = lambda metrics: True,
) -> list[dict[str, Any]]:
    """The points as ``compare --json`` has them; `pareto` says which lie on the front together with the trials.

    Args:
        searches: that are compared.
        finals: the trials.
        goals: what is better.
        dense: metrics of the dense network.
        keeps: from the metrics of a round to whether it is looked at.
    """
    points = [point for point in earlier_rounds(searches) if keeps(point.data["metrics"])]
    stand_ins = [point.stand_in() for point in points]
    front = {trial.id for trial in goals.pareto([*finals, *stand_ins], dense)}
    return [point.as_data(stand_in.id in front) for point, stand_in in zip(points, stand_ins, strict=True)]
