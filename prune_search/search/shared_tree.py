"""The shared tree of a search: what is trained, what is being trained, and which trials can continue.

Trials share just the beginnings of their branches, so that a trial must wait only while another one trains the very
segment that comes next on its own branch. Whoever goes first trains for all; who waits holds no resources.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prune_search.ledger.records import TrialRecords
from prune_search.recipe.clock import resolve
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import Drawn, Space
from prune_search.recipe.space_samples import AtRandom, space_samples
from prune_search.trial.addresses import Vertex, nominal_branch, nominal_root

SAMPLED_STOPS = 256

EpochOf = Callable[[Recipe], int | None]


@dataclass
class Tree:
    """What is known of the tree.

    Attributes:
        epoch_of: iterations in an epoch of a recipe, or None where they are not known.
        done: by address, the furthest step whose state is there.
    """

    epoch_of: EpochOf
    done: dict[str, int] = field(default_factory=dict)
    _vertices: dict[str, list[Vertex]] = field(default_factory=dict)
    _points: dict[str, set[int]] = field(default_factory=dict)

    def vertices(self, trial: TrialRecords) -> list[Vertex]:
        """The trial's branch; nothing of one that cannot be placed, which then waits for nobody."""
        if trial.id not in self._vertices:
            self._vertices[trial.id] = self._grow(trial)
        return self._vertices[trial.id]

    def _grow(self, trial: TrialRecords) -> list[Vertex]:
        try:
            recipe = Recipe.from_canonical(trial.recipe)
            epoch = self.epoch_of(recipe)
            if epoch is None:
                return []
            line, branch = nominal_branch(recipe, epoch)
        except UserError:
            return []
        points = self._points.setdefault(branch.train.address, set())
        points |= {line.k1} | ({line.k2} if line.k2 is not None else set())
        return branch.vertices()

    def learn(self, trial: TrialRecords) -> None:
        """Take note of what a trial's records say is there."""
        by_place = {vertex.place: vertex for vertex in self.vertices(trial)}
        for progress in trial.progress.values():
            for place, step in progress.reached.items():
                if place in by_place:
                    self._note(by_place[place].address, step)
        if trial.ended is not None and trial.ended.data["status"] == "completed":
            for vertex in by_place.values():
                if not vertex.at_most:
                    self._note(vertex.address, vertex.needed)

    def _note(self, address: str, step: int) -> None:
        self.done[address] = max(step, self.done.get(address, -1))

    def missing(self, trial: TrialRecords) -> Vertex | None:
        """The first segment of a trial's branch that is not there as far as it is needed; None: all is there."""
        for vertex in self.vertices(trial):
            if self.done.get(vertex.address, -1) < vertex.needed:
                return vertex
        return None

    def left(self, trial: TrialRecords) -> int:
        """Steps that are not there yet on a trial's branch."""
        return sum(max(0, v.needed - max(0, self.done.get(v.address, 0))) for v in self.vertices(trial))

    def ready(self, waiting: Iterable[TrialRecords], running: Iterable[TrialRecords]) -> list[TrialRecords]:
        """The trials that need nothing that is being trained, in the order in which they are best started.

        Those first that have all they need: their results cost nothing. Then the longest branch: what it trains on
        the way is there for the shorter ones, and the end of the search waits for nothing long.
        """
        trained = {missing.address for trial in running if (missing := self.missing(trial)) is not None}
        found: list[tuple[int, int, str, TrialRecords]] = []
        for trial in waiting:
            missing = self.missing(trial)
            if missing is None or missing.address not in trained:
                found.append((missing is not None, -self.left(trial), trial.id, trial))
        return [trial for *_, trial in sorted(found, key=lambda item: item[:3])]

    def stops(self, trial: TrialRecords) -> tuple[int, ...]:
        """The steps of its trajectory 1 that proposed trials ask for."""
        vertices = self.vertices(trial)
        return tuple(sorted(self._points.get(vertices[0].address, ()))) if vertices else ()


def askable_stops(space: Space, epoch_of: EpochOf, examples: int = 0) -> dict[str, tuple[int, ...]]:
    """By nominal root, steps of trajectory 1 that a space can ask for: every choice, and many points of a range."""
    found: dict[str, set[int]] = {}
    draw = AtRandom(random.Random(0))
    points: list[Drawn] = [
        *space_samples(space.fill),
        *(space.fill(draw, examples=examples) for _ in range(SAMPLED_STOPS)),
    ]
    for drawn in points:
        try:
            recipe = drawn.recipe()
            epoch = epoch_of(recipe)
            if epoch is None:
                continue
            line = resolve(recipe, epoch)
        except UserError:
            # An invalid region: such a draw is never run.
            continue
        places = found.setdefault(nominal_root(recipe, line), set())
        places |= {line.k1} | ({line.k2} if line.k2 is not None else set())
    return {root: tuple(sorted(places)) for root, places in found.items()}
