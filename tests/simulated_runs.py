"""The product's own simulated searches, begun by tests, and what two of them are compared by."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_search import make_definition
from simulated_search import SPACE

from prune_search.ledger.records import SearchRecords, read_search
from prune_search.recipe import strict_yaml
from prune_search.recipe.space import Space, read_space
from prune_search.search.next_trial import Listener, NextTrial
from prune_search.simulation.search import SimulatedRun, known_to
from prune_search.simulation.surface import Simulation

FAILING = {"name": "closed-form", "failing": 0.15}


def shuffled(seed: int) -> Callable[[int], int]:
    """Virtual workers go on in an order that is drawn."""
    draw = random.Random(seed)
    return draw.randrange


@dataclass
class Simulated:
    """A simulated search.

    Attributes:
        folder: of the search.
        space: what is searched.
        simulation: the surface.
        asked: whether it is to end.
    """

    folder: Path
    space: Space
    simulation: Simulation
    asked: bool = False

    @classmethod
    def begin(cls, storage: Path, text: str = SPACE, surface: Any = "closed-form") -> Simulated:
        """Write search.json."""
        simulation = Simulation.of(surface)
        folder = make_definition(storage, "simulated", text, simulated=simulation.as_data())
        return cls(folder, read_space(strict_yaml.load(text), "simulated"), simulation)

    def run(self, order: Callable[[int], int] = lambda count: 0, listener: Listener | None = None) -> SearchRecords:
        """Run it from its ledger to its end."""
        next_trial = NextTrial.open(self.folder, self.space, known_to(self.simulation), lambda: self.asked)
        told = listener or (lambda records, trial: None)
        SimulatedRun(next_trial, self.simulation, lambda: self.asked, told, order).run()
        return read_search(self.folder)
