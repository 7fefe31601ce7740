"""The rounds of a simulated recipe: their points on a surface, and the steps they would train."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from prune_search.pruning.mask.counts import keep_count
from prune_search.recipe import axes
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import nominal_epoch
from prune_search.simulation.surface import SurfacePoint
from prune_search.trial.addresses import RoundBranch, Vertex, branch_of, nominal_root

# Weights of a simulated network.
UNITS = 100_000


@dataclass(frozen=True)
class SimulatedRound:
    """One round.

    Attributes:
        point: where it lies on a surface.
        kept: weights kept, of `UNITS`.
        asked: asked sparsity.
        before: what is trained before its last retraining.
        retraining: its last retraining.
        settled: step of it from which the mask has the asked sparsity.
    """

    point: SurfacePoint
    kept: int
    asked: float
    before: tuple[Vertex, ...]
    retraining: Vertex
    settled: int


@dataclass(frozen=True)
class Chain:
    """A recipe's rounds, after its first training.

    Attributes:
        timeline: the recipe's places in iterations.
        first: trajectory 1.
        rounds: the rounds.
    """

    timeline: Timeline
    first: Vertex
    rounds: tuple[SimulatedRound, ...]

    @property
    def needed(self) -> int:
        """Steps of the whole recipe, whoever trains them."""
        vertices = [
            self.first,
            *(
                vertex
                for simulated_round in self.rounds
                for vertex in (*simulated_round.before, simulated_round.retraining)
            ),
        ]
        return sum(vertex.needed for vertex in vertices)


def check_sparsity(recipe: Recipe) -> None:
    """Refuse a recipe whose sparsity is found by training.

    Raises:
        UserError: it is no number.
    """
    if recipe.mask.sparsity.layers is not None:
        raise UserError([Problem("mask.sparsity", "counts the layers of a network, which a simulation does not have")])
    if not recipe.mask.sparsity.known:
        raise UserError([Problem("mask.sparsity", "is only known after training, which a simulation does not do")])


def epoch_of(recipe: Recipe) -> int:
    """Iterations in an epoch; of a data set whose size is not known before it is read, a nominal one."""
    return nominal_epoch(recipe.task.written["data"], recipe.train.batch, accumulate=recipe.train.accumulate)


def chain_of(recipe: Recipe) -> Chain:
    """The rounds of a recipe.

    Raises:
        UserError: a place does not fit on the clock, or the sparsity is decided by training only.
    """
    check_sparsity(recipe)
    line = resolve(recipe, epoch_of(recipe))
    branch = branch_of(recipe, line, nominal_root(recipe, line))
    rounds: list[SimulatedRound] = []
    left = 1.0
    for item in branch.rounds:
        share = item.share if item.share is not None else Decimal(1)
        rounds.append(_simulated_round(recipe, line, item, share, left))
        left = float(share)
    return Chain(line, branch.train, tuple(rounds))


def _simulated_round(recipe: Recipe, line: Timeline, item: RoundBranch, share: Decimal, left: float) -> SimulatedRound:
    """A round that began with a share `left` of the weights."""
    *before, last = item.vertices()
    density = float(share)
    removed = 1 - density / left if left > 0 else 0.0
    point = SurfacePoint(recipe, line, item.number, density, removed, last.address)
    settled = 0
    named = None if recipe.retrain is None else recipe.retrain.dynamics
    if named is not None and item.control is None:
        settled = int(named.entry(axes.DYNAMICS).facts.settles(line.retrain_steps, line.epoch, **named.options))
    return SimulatedRound(point, keep_count(UNITS, share), float(1 - share), tuple(before), last, settled)
