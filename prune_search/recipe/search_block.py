"""The search block: settings of the search, which are not part of a recipe."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.begin import Begin
from prune_search.recipe.fidelity import FidelityField, fidelities_of
from prune_search.recipe.fields import Either, Flag, Integer, ListOf, Number, Value, read_block
from prune_search.recipe.metric_names import ACCURACY, LEADING, can_be_a_tasks, is_share, metric_facts, searchable
from prune_search.recipe.named import Named
from prune_search.recipe.problems import not_one_of, shown
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.registry import REQUIRED, Option
from prune_search.recipe.schema import SEED_LIMIT

_OBJECTIVE = re.compile(r"(?P<direction>\S+)\s+(?P<metric>\S+)")
_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"
_CONSTRAINT = re.compile(r"(?P<metric>\S+)\s*(?P<relation>>=|<=)\s*(?P<value>.+)")
_VALUE = re.compile(
    rf"(?P<plain>-?{_NUMBER}%?)|(?P<dense>dense)(?:\s*(?P<sign>[-+])\s*(?P<offset>{_NUMBER}%?))?"
    rf"|(?P<factor>{_NUMBER})\s*\*\s*dense"
)


def _metric(metric: str, path: str, reading: Reading) -> Any:
    known = searchable()
    if metric.startswith("test/") or (metric in axes.METRICS and metric not in known):
        return reading.wrong(path, f"{shown(metric)} is measured on test data, which a search never sees")
    # What else is measured on validation data depends on the task.
    fits = metric in known or can_be_a_tasks(metric)
    return metric if fits else reading.wrong(path, not_one_of(metric, known))


@dataclass(frozen=True)
class Objective:
    """``maximize METRIC`` or ``minimize METRIC``."""

    def describe(self) -> str:
        return "maximize METRIC or minimize METRIC"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        match = _OBJECTIVE.fullmatch(raw.strip()) if isinstance(raw, str) and len(raw) < 200 else None
        if match is None:
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        if match["direction"] not in ("maximize", "minimize"):
            return reading.wrong(path, not_one_of(match["direction"], ("maximize", "minimize")))
        metric = _metric(match["metric"], path, reading)
        return BAD if metric is BAD else f"{match['direction']} {metric}"


@dataclass(frozen=True)
class Bound:
    """The right side of a constraint: ``factor * dense + offset``; a factor of 0 is a plain number."""

    factor: float
    offset: float

    def value(self, dense: float) -> float:
        """The bound, given the dense network's figure."""
        return self.factor * dense + self.offset if self.factor else self.offset


@dataclass(frozen=True)
class Constraint:
    """``METRIC >= VALUE`` or ``METRIC <= VALUE``, VALUE a number, N%, or relative to the dense network."""

    def describe(self) -> str:
        return "METRIC >= VALUE or METRIC <= VALUE, VALUE a number, N%, dense, dense - N, dense + N or N * dense"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        match = _CONSTRAINT.fullmatch(raw.strip()) if isinstance(raw, str) and len(raw) < 200 else None
        if match is None or _VALUE.fullmatch(match["value"].strip()) is None:
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        metric = _metric(match["metric"], path, reading)
        if metric is BAD:
            return BAD
        written = f"{metric} {match['relation']} {match['value'].strip()}"
        bound = parse_constraint(written)[2]
        if not math.isfinite(bound.factor) or not math.isfinite(bound.offset):
            return reading.wrong(path, f"the bound must be finite (got {shown(raw)})")
        return written


def _share(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def parse_objective(written: str) -> tuple[str, str]:
    """(direction, metric) of a canonical objective."""
    direction, metric = written.split()
    return direction, metric


def parse_constraint(written: str) -> tuple[str, str, Bound]:
    """(metric, relation, bound) of a canonical constraint."""
    match = _CONSTRAINT.fullmatch(written)
    value = _VALUE.fullmatch(match["value"]) if match else None
    if match is None or value is None:
        raise ValueError(f"no constraint: {written!r}")
    if value["plain"]:
        bound = Bound(0.0, _share(value["plain"]))
    elif value["factor"]:
        bound = Bound(float(value["factor"]), 0.0)
    else:
        offset = _share(value["offset"]) if value["offset"] else 0.0
        bound = Bound(1.0, -offset if value["sign"] == "-" else offset)
    return match["metric"], match["relation"], bound


def metrics_asked(search: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that a canonical search block names, in its objectives and constraints."""
    objectives = (parse_objective(written)[1] for written in search["objectives"])
    constraints = (parse_constraint(written)[0] for written in search["constraints"])
    return tuple(dict.fromkeys((*objectives, *constraints)))


def measured_at_the_end_only(search: Mapping[str, Any]) -> list[str]:
    """Of those, the ones that cannot be taken in the middle of a retraining."""
    return [name for name in metrics_asked(search) if not metric_facts(name).in_training]


FINALISTS = {
    "count": Option(Integer(1, 1000), 3, "number of recipes that are repeated"),
    "seeds": Option(Integer(2, 1000), 3, "number of new seeds for each"),
}


@dataclass(frozen=True)
class Finalists:
    """How many of the best recipes are repeated at the end, and on how many new seeds."""

    def describe(self) -> str:
        return "a mapping such as {count: 3, seeds: 3}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if not isinstance(raw, Mapping):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        return read_block(FINALISTS, raw, path, reading)


MOST_WORKERS = 10_000
WORKERS = {
    "at_least": Option(Integer(1, MOST_WORKERS), 1, "minimum number of workers of a trial"),
    "at_most": Option(Integer(2, MOST_WORKERS), REQUIRED, "maximum number of workers of a trial"),
}


@dataclass(frozen=True)
class WorkersRange:
    """A range of workers."""

    def describe(self) -> str:
        return "a mapping such as {at_least: 2, at_most: 8}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if not isinstance(raw, Mapping):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        found = read_block(WORKERS, raw, path, reading)
        if found is not BAD and found["at_least"] > found["at_most"]:
            text = f"must be at most at_most, which is {found['at_most']} (got {found['at_least']})"
            return reading.wrong(f"{path}.at_least", text)
        return found


DEFAULT_OBJECTIVES = ["maximize val/accuracy", "maximize sparsity"]
SEARCH = {
    "sampler": Option(Value(axes.SAMPLERS), "guided"),
    "scheduler": Option(Value(axes.SCHEDULERS), "none"),
    "trials": Option(Integer(1, 100_000), 24),
    "concurrency": Option(Integer(1, 100_000), 2, "number of trials that run at the same time"),
    "objectives": Option(ListOf(Objective(), 1, 10), DEFAULT_OBJECTIVES),
    "constraints": Option(ListOf(Constraint(), 0, 20), []),
    "stop_when_met": Option(Flag(), False, "end the search at the first trial that meets all constraints"),
    "seed": Option(Integer(0, SEED_LIMIT), 0, "seed of the sampler"),
    "reproducible": Option(Flag(), False),
    "controls": Option(Flag(), True),
    "begin": Option(Begin(), None, "recipes that are tried first; cold: nothing is learned from earlier searches"),
    "finalists": Option(Finalists(), None, "the best recipes are repeated on new seeds, and the best mean wins"),
    "time_budget": Option(Number(0.0, 1e9, above=True), None, "seconds"),
    "max_failures": Option(Integer(0, 100_000), 3, "number of retries of a trial whose process died"),
    "cpus_per_trial": Option(Number(0.0, 10_000.0, above=True), 1.0, "CPUs per worker of a trial"),
    "gpus_per_trial": Option(Number(0.0, 1000.0), 0.0, "GPUs per worker of a trial"),
    "workers_per_trial": Option(
        Either(((int, Integer(1, MOST_WORKERS)), (dict, WorkersRange()))),
        None,
        "workers per trial (data-parallel training): a number, or {at_least: 2, at_most: 8}, by free resources",
    ),
    "sharded": Option(
        Flag(),
        False,
        "each worker of a trial holds its shard of weights, masks and optimizer (torch's fully_shard, FSDP2)",
        later=True,
    ),
    "fidelity": Option(
        ListOf(FidelityField(), 1, 4),
        None,
        "cheaper forms of recipes to try first, while their results rank recipes as the full ones do; needs guided",
        later=True,
    ),
}


def read_search(raw: Any, reading: Reading) -> Mapping[str, Any] | None:
    """The canonical search block; None where something is wrong."""
    search = read_block(SEARCH, {} if raw is None else raw, "search", reading)
    if search is BAD:
        return None
    result: Mapping[str, Any] = search
    gpus = result["gpus_per_trial"]
    if workers_of(result).several and gpus != int(gpus):
        text = f"must be a whole number if workers_per_trial is above 1: each worker needs its own (got {gpus:g})"
        reading.wrong("search.gpus_per_trial", text)
        return None
    if is_sharded(result) and not workers_of(result).several:
        text = "true divides the network among the workers of a trial: set search.workers_per_trial to 2 or more"
        reading.wrong("search.sharded", text)
        return None
    if is_sharded(result) and (wrong := [name for name in metrics_asked(result) if metric_facts(name).whole]):
        text = (
            f"{', '.join(wrong)} needs the whole network in one process, and search.sharded is true: measure it after"
        )
        reading.wrong("search.objectives", f"{text} `export`, or leave it out of the objectives and constraints")
        return None
    if (wrongly := _wrong_fidelity(result)) is not None:
        reading.wrong("search.fidelity", wrongly)
        return None
    if contradictions := [*_repeated_objectives(result), *_unmeetable(result)]:
        for path, text in contradictions:
            reading.wrong(path, text)
        return None
    return result


def _wrong_fidelity(search: Mapping[str, Any]) -> str | None:
    """What is wrong with the low fidelities of a search, None where nothing is."""
    labels = [one.label for one in fidelities_of(search)]
    twice = next((label for place, label in enumerate(labels) if label in labels[:place]), None)
    if twice is not None:
        return f"names {twice} twice"
    sampler = Named.of(axes.SAMPLERS, search["sampler"])
    if labels and not sampler.entry(axes.SAMPLERS).facts.expects:
        return f"needs the sampler guided, which weighs gains against prices (got {sampler.name})"
    return None


def _repeated_objectives(search: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a metric is an objective twice, and what to say."""
    first: dict[str, str] = {}
    for place, written in enumerate(search["objectives"]):
        metric = parse_objective(written)[1]
        if metric in first:
            yield f"search.objectives.{place}", f"{metric} is an objective already ({first[metric]})"
        first.setdefault(metric, written)


def _unmeetable(search: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where constraints say what no network can meet, and what to say; those relative to dense are not known yet."""
    bounds: dict[tuple[str, str], tuple[float, str]] = {}
    for place, written in enumerate(search["constraints"]):
        path = f"search.constraints.{place}"
        metric, relation, bound = parse_constraint(written)
        if bound.factor:
            continue
        value = bound.offset
        if metric.partition("/")[0] == "sparsity" and (value >= 1 if relation == ">=" else value < 0):
            yield path, f"no network meets it: {metric} is at least 0 and below 1; 90% is 0.9 (got {shown(written)})"
        other, said = bounds.get((metric, "<=" if relation == ">=" else ">="), (value, ""))
        if value > other if relation == ">=" else value < other:
            yield path, f"no network meets both {said} and {written}"
        bounds[metric, relation] = value, written


def is_sharded(search: Mapping[str, Any]) -> bool:
    """Whether the workers of a trial divide its network among themselves."""
    return bool(search.get("sharded", False))


@dataclass(frozen=True)
class WorkersAsked:
    """How many workers run one trial together.

    Attributes:
        least, most: at least 1; the same number where no range was asked for.
    """

    least: int = 1
    most: int = 1

    @property
    def several(self) -> bool:
        """Whether there can be more than one."""
        return self.most > 1

    @property
    def ranges(self) -> bool:
        """Whether it is not always the same number."""
        return self.least < self.most

    @property
    def declared(self) -> int | str:
        """As an environment class has them: what is stored does not depend on how many of a range there were."""
        return f"{self.least}-{self.most}" if self.ranges else self.most

    def fitting(self, room: int) -> int:
        """As many as there is room for, within the range."""
        return max(self.least, min(self.most, room))


def workers_of(search: Mapping[str, Any]) -> WorkersAsked:
    """How many workers run one trial of a canonical search block together."""
    written = search.get("workers_per_trial") or 1
    if isinstance(written, Mapping):
        return WorkersAsked(written["at_least"], written["at_most"])
    return WorkersAsked(written, written)


def resolved(search: Mapping[str, Any], scores: Iterable[str], best: Mapping[str, str]) -> dict[str, Any]:
    """A search block with a task's first metric in the place of ``val/METRIC``, and of an accuracy that nobody wrote.

    Where smaller is better, what is maximized is minimized, and what is at least a bound relative to the dense network
    is at most that; a bound of a metric that is no share is relative: ``dense - 1%`` becomes ``0.99 * dense``.

    Args:
        search: canonical.
        scores: the names of the task's metrics, without ``val/``.
        best: which way each is better.
    """
    names = [name for name in scores if name != "loss"] or ["loss"]
    first = f"val/{names[0]}"
    down = best.get(names[0], "minimize") == "minimize"
    objectives = list(search["objectives"])
    if objectives == DEFAULT_OBJECTIVES and ACCURACY.partition("/")[2] not in names:
        objectives[0] = f"maximize {LEADING}"
    made = [
        written if LEADING not in written.split() else f"{'minimize' if down else 'maximize'} {first}"
        for written in objectives
    ]
    constraints = []
    for written in search["constraints"]:
        metric, asked, bound = parse_constraint(written)
        if metric != LEADING:
            constraints.append(written)
            continue
        relation = {">=": "<=", "<=": ">="}[asked] if down else asked
        if bound.factor and bound.offset and not is_share(first):
            factor = bound.factor + (-bound.offset if down else bound.offset)
            value = f"{factor:g} * dense"
        elif bound.factor and bound.offset:
            value = f"dense {'+' if (bound.offset > 0) != down else '-'} {abs(bound.offset):g}"
        else:
            value = written.partition(asked)[2].strip()
        constraints.append(f"{first} {relation} {value}")
    return {**search, "objectives": made, "constraints": constraints}
