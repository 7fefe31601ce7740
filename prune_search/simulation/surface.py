"""Surfaces: functions from a round of a recipe to the accuracy of its network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from prune_search.recipe import axes
from prune_search.recipe.clock import Timeline
from prune_search.recipe.fields import Number, Value
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.registry import Option
from prune_search.training.randomness import derive

# `derive` gives whole numbers below it.
DRAWS = 2**63
DEFAULT, TABLE = "closed-form", "measured-table"
# Options that every surface can have: what goes wrong in a simulated search.
FAULTS = {
    "failing": Option(Number(0.0, 1.0), 0.0, "share of the trials whose loss becomes NaN"),
    "dying": Option(
        Number(0.0, 1.0), 0.0, "share of the attempts whose process dies, after which the trial is retried"
    ),
}


@dataclass(frozen=True)
class SurfacePoint:
    """One round of one recipe.

    Attributes:
        recipe: canonical.
        timeline: its places in iterations.
        number: r, from 1.
        density: kept share of the weights after the round, 0 … 1.
        removed: share of the weights left before the round that the round removes, 0 … 1.
        address: content address of the round's training: what two trials share has one address, so that it is measured
            alike in both.
    """

    recipe: Recipe
    timeline: Timeline
    number: int
    density: float
    removed: float
    address: str


@dataclass(frozen=True)
class Outlook:
    """How a round goes.

    Attributes:
        truth: the expected accuracy at its end, without noise, 0 … 1; what regret is measured by.
        accuracy: the validation accuracy that is measured there.
        start: validation accuracy right after the weights were removed.
        half: share of the retraining, above 0, in which half of what is to be regained is regained.
        deviation: of a measurement in the middle of the retraining.
    """

    truth: float
    accuracy: float
    start: float
    half: float
    deviation: float

    def during(self, share: float, noise: float) -> float:
        """Validation accuracy when a share of the retraining is done.

        ``start + (accuracy - start) · (1 - 2^(-share/half)) / (1 - 2^(-1/half)) + deviation · noise``, clipped to
        0 … 1.
        """
        regained = (1 - 2 ** (-share / self.half)) / (1 - 2 ** (-1 / self.half))
        return min(1.0, max(0.0, self.start + (self.accuracy - self.start) * regained + self.deviation * noise))


@runtime_checkable
class Surface(Protocol):
    """Says how accurate the networks of recipes are. A pure function, whose options are its own."""

    @property
    def failing(self) -> float:
        """Share of the trials whose loss becomes NaN."""

    @property
    def dying(self) -> float:
        """Share of the attempts whose process dies."""

    @property
    def content(self) -> str:
        """Digest of what it reads besides its options; empty where it reads nothing."""

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that the surface says nothing about.

        Raises:
            UserError: with what it lacks; to a sampler such a recipe lies in an invalid region.
        """

    def outlook(self, point: SurfacePoint) -> Outlook:
        """How a round goes; of a recipe that passed `check`."""


@dataclass(frozen=True)
class Simulation:
    """A surface as a search names it.

    Attributes:
        written: the canonical value, as search.json keeps it.
        surface: made from it.
    """

    written: Any
    surface: Surface

    @classmethod
    def of(cls, value: Any) -> Simulation:
        """Read what a user wrote: a surface's name, a mapping with its name and options, or the path of a table.

        Raises:
            UserError: with everything that is wrong with it.
        """
        if isinstance(value, str) and value not in axes.SURFACES and (Path(value).suffix or "/" in value):
            value = {"name": TABLE, "file": str(Path(value).absolute())}
        reading = Reading()
        written = Value(axes.SURFACES).read(value, "--surface", reading)
        if written is BAD or reading.problems:
            raise UserError(reading.problems)
        named = Named.of(axes.SURFACES, written)
        return cls(written, named.entry(axes.SURFACES).build(Surface, **named.options))

    @classmethod
    def again(cls, kept: Mapping[str, Any]) -> Simulation:
        """The simulation of a search that goes on, from its search.json.

        Raises:
            UserError: what the surface reads has changed since, or is gone.
        """
        simulation = cls.of(kept["surface"])
        if simulation.surface.content != kept["content"]:
            text = "has changed since the search was launched: restore it, or launch a new search"
            named = Named.of(axes.SURFACES, simulation.written)
            raise UserError([Problem("", text, str(named.options.get("file", named.name)))])
        return simulation

    @property
    def name(self) -> str:
        """The surface's name."""
        return Named.of(axes.SURFACES, self.written).name

    def as_data(self) -> dict[str, Any]:
        """What search.json keeps."""
        return {"surface": self.written, "content": self.surface.content}

    @property
    def digest(self) -> str:
        """Tells the results of this surface from all others, and from trained ones."""
        written = self.written if isinstance(self.written, str) else {**self.written, "file": None}
        return digest_of({"simulated": written, "content": self.surface.content})


def uniform(address: str, *words: str | int) -> float:
    """A number in 0 … 1, both excluded, that depends on the address and the words only."""
    return (derive(0, "simulated", address, *words) % DRAWS + 0.5) / DRAWS


def normal(address: str, *words: str | int) -> float:
    """A standard normal number that depends on the address and the words only."""
    return statistics.NormalDist().inv_cdf(min(max(uniform(address, *words), 1e-15), 1 - 1e-15))


def loss_at(accuracy: float) -> float:
    """The cross-entropy in nats that goes with an accuracy in a simulation: -ln(accuracy), at most -ln(1e-6)."""
    return -math.log(max(accuracy, 1e-6))
