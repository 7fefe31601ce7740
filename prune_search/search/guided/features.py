"""What tells networks apart: where a recipe's places lie on the clock, how sparse it gets, and its other choices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from prune_search.recipe.clock import Timeline
from prune_search.recipe.recipe import Recipe
from prune_search.search.expected_error import expected_error, mean_rate, taken_at
from prune_search.search.guided.candidates import Candidate
from prune_search.search.guided.kernel import Nodes

# Holes that say what the places, the lengths and the depth say already.
SAID = ("any", "mask.at", "mask.sparsity", "weights.at", "retrain.steps", "retrain.until", "retrain.clock", "rounds")
# Numbers of one sign that span such a factor are compared by their logarithms.
WIDE = 10.0
# Error of the dense network after a long training, as the prior has it; its level is learned.
DENSE_ERROR = 0.06
# About half an example of a validation split; errors below it are all alike.
FLOOR = 0.003
# The least density that is told apart, and the depth of a network whose density is decided in the trial.
SPARSEST = 1e-4


@dataclass(frozen=True)
class Network:
    """One network of a recipe: at the end of a round, or in the middle of the last retraining.

    Attributes:
        owner: the recipe's digest.
        numbers: by name; those of holes as they were drawn.
        kinds: by name.
        density: nominal kept share; None where it is decided in the trial.
        prior: expected -log(error).
    """

    owner: str
    numbers: Mapping[str, float]
    kinds: Mapping[str, str]
    density: float | None
    prior: float


@dataclass(frozen=True)
class _Round:
    """A round, as the expected error takes it."""

    recipe: Recipe
    timeline: Timeline
    number: int
    density: float
    removed: float


def densities(one: Candidate) -> list[float | None]:
    """The nominal kept share after each round; None where it is decided in the trial."""
    return [None if item.share is None else float(item.share) for item in one.branch.rounds]


def network(one: Candidate, number: int, done: float = 1.0) -> Network:
    """The network of a round.

    Args:
        one: the recipe.
        number: of the round, from 1.
        done: share of its retraining, 0 … 1.
    """
    line, recipe, shares = one.timeline, one.recipe, densities(one)
    density = shares[number - 1]
    before = (shares[number - 2] if number > 1 else 1.0) or 1.0
    removed = 0.0 if density is None else max(0.0, 1 - density / before)
    round_ = _Round(recipe, line, number, density if density is not None else 0.1, removed)
    heat, total = mean_rate(round_), max(1, line.total)
    numbers = {
        "found at": line.k1 / total,
        "taken at": taken_at(round_),
        "clock": 1.0 if line.clock is None else line.clock / total,
        "length": line.retrain_steps / total,
        "heat": heat,
        "removed": removed,
        "done": done,
    }
    numbers |= {name: float(value) for name, value in one.params.items() if _is_number(value) and not _said(name)}
    kinds = {name: str(value) for name, value in one.params.items() if not _is_number(value) and not _said(name)}
    dynamics = None if recipe.retrain is None else recipe.retrain.dynamics
    kinds |= {
        "option": one.option,
        "criterion": recipe.mask.criterion.name,
        "scope": recipe.mask.scope.name,
        "granularity": recipe.mask.granularity.name,
        "dynamics": "" if dynamics is None else dynamics.name,
    }
    error = expected_error(round_, DENSE_ERROR, heat)[1]
    return Network(one.digest, numbers, kinds, density, -math.log(error + FLOOR))


def nodes_of(networks: Sequence[Network], prior: bool) -> Nodes:
    """The networks as rows for the surrogate; a number or choice that only some have is 0.5, or a kind of its own."""
    numbers = [_column([one.numbers.get(name) for one in networks]) for name in _names(n.numbers for n in networks)]
    kinds = []
    for name in _names(n.kinds for n in networks):
        values = [one.kinds.get(name, "") for one in networks]
        codes = {value: code for code, value in enumerate(sorted(set(values)))}
        kinds.append([codes[value] for value in values])
    owners: dict[str, int] = {}
    branch = [owners.setdefault(one.owner, len(owners)) for one in networks]
    count = len(networks)
    return Nodes(
        numpy.array(numbers, dtype=numpy.float64).T.reshape(count, len(numbers)),
        numpy.array(kinds, dtype=numpy.int64).T.reshape(count, len(kinds)),
        depths(networks),
        numpy.array(branch, dtype=numpy.int64),
        numpy.array([one.prior for one in networks]) if prior else None,
    )


def depths(networks: Sequence[Network]) -> numpy.ndarray[Any, numpy.dtype[numpy.float64]]:
    """-log(density) over that of the sparsest, 0 … 1; where it is decided in the trial, as sparse as the middle one."""
    known = [-math.log(max(one.density, SPARSEST)) for one in networks if one.density is not None]
    middle = sorted(known)[len(known) // 2] if known else 0.0
    found = [middle if n.density is None else -math.log(max(n.density, SPARSEST)) for n in networks]
    return numpy.array(found) / (max(found, default=0.0) or 1.0)


def _names(given: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({name for one in given for name in one})


def _column(values: Sequence[float | None]) -> list[float]:
    """Numbers on 0 … 1, by their logarithms where they are of one sign and far apart."""
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    wide = low > 0 and high / low >= WIDE
    low, high = (math.log(low), math.log(high)) if wide else (low, high)
    span = (high - low) or 1.0
    return [0.5 if v is None else ((math.log(v) if wide else v) - low) / span for v in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in SAID)
