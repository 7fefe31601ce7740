"""Estimates the cost of a search before its launch: its trials as a tree, each segment counted once.

The trials of a sampler that does not learn are the very ones that will be run. Those of a sampler that learns are drawn
at random from the same space: where it will go is not known, what its trials can share is.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.begin import told
from prune_search.recipe.clock import Timeline
from prune_search.recipe.fidelity import fidelities_of
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.space import Space
from prune_search.recipe.space_samples import AtRandom
from prune_search.search.guided.spend import expected_spend
from prune_search.search.next_trial import dense_recipe
from prune_search.search.proposer import Proposer
from prune_search.search.schedulers import make_stopping_rule
from prune_search.training.randomness import derive
from prune_search.training.segment import GRID
from prune_search.trial.addresses import Branch, nominal_branch

EpochOf = Callable[[Recipe], int | None]

SHOWN_RECIPES = 20
# More trials than these are not drawn: their figures are scaled up from those that are.
MAX_DRAWN = 2000
MAX_DRAWS_PER_TRIAL = 20
FEW_SHARED = 1.1
# Segments that are trained under a mask, by the beginning of their place.
MASKED = ("retrain.", "control.")
# The longest retraining over the shortest, from where a comparison at equal steps is warned of.
UNEQUAL = 1.25


@dataclass(frozen=True)
class Planned:
    """One trial of a plan.

    Attributes:
        recipe: canonical.
        params: what was drawn, by dotted path.
        timeline: its places in iterations.
        branch: its segments.
    """

    recipe: Recipe
    params: Mapping[str, Any]
    timeline: Timeline
    branch: Branch

    @property
    def steps(self) -> int:
        """Iterations that the recipe asks for."""
        return sum(vertex.needed for vertex in self.branch.vertices())


@dataclass(frozen=True)
class Plan:
    """What a search will do. Steps are iterations.

    Attributes:
        trials: asked for, or fewer where a grid has fewer points.
        drawn: those that the figures were taken from; where it is less than `trials`, they are scaled up.
        exact: whether these are the very trials that will be run.
        recipes: distinct ones among them.
        roots: distinct beginnings, which share nothing with each other.
        vertices: distinct segments of training.
        segments: the same, each counted for every trial that needs it.
        steps_unshared: what the trials ask for, one by one.
        steps_shared: with every segment trained once.
        steps_stored: of `steps_shared`, what the storage has already; None where that is not known.
        steps_controls: of the controls, besides: an estimate, since two of them follow the best trial.
        steps_expected: what a sampler that learns expects to train, before anything is measured; None of others.
        steps_finalists: of the finalists' repetitions, at most, as for trials of mean length; 0 where there are none.
        scheduler_share: the share of `steps_shared` that the scheduler can save.
        states: stored states: ends of segments, and places on trajectory 1.
        states_on_the_way: those of `states` that training goes on from, which hold the optimizer's buffers.
        states_of_masks: those of `states` that hold a mask: ends of retrainings.
        first: the first twenty trials.
        warnings: what in the space costs more than it must.
    """

    trials: int
    drawn: int
    exact: bool
    recipes: int
    roots: int
    vertices: int
    segments: int
    steps_unshared: int
    steps_shared: int
    steps_controls: int
    scheduler_share: float
    states: int
    first: tuple[Planned, ...]
    warnings: tuple[str, ...] = field(default=())
    steps_stored: int | None = None
    states_on_the_way: int = 0
    states_of_masks: int = 0
    steps_finalists: int = 0
    steps_expected: int | None = None

    @property
    def steps_to_train(self) -> int:
        """What the search trains in all."""
        return self.steps_shared + self.steps_controls + self.steps_finalists

    @property
    def ceiling(self) -> float:
        """Σ steps ÷ distinct steps: how many times fewer steps sharing trains, at best; 1 where nothing is shared."""
        return self.steps_unshared / self.steps_shared if self.steps_shared else 1.0

    def as_data(self) -> dict[str, Any]:
        """What ``plan --json`` prints, but for what a calibration adds."""
        return {
            "trials": self.trials,
            "drawn": self.drawn,
            "exact": self.exact,
            "recipes": self.recipes,
            "roots": self.roots,
            "vertices": self.vertices,
            # The name that version 0.1 gave segments.
            "stretches": self.segments,
            "states": self.states,
            "states_on_the_way": self.states_on_the_way,
            "states_of_masks": self.states_of_masks,
            "steps_unshared": self.steps_unshared,
            "steps_shared": self.steps_shared,
            "steps_stored": self.steps_stored,
            "steps_controls": self.steps_controls,
            **({"steps_finalists": self.steps_finalists} if self.steps_finalists else {}),
            **({} if self.steps_expected is None else {"steps_expected": self.steps_expected}),
            "ceiling": round(self.ceiling, 4),
            "scheduler_share": round(self.scheduler_share, 4),
            "first": [_shown(item) for item in self.first],
            "warnings": list(self.warnings),
        }


def _shown(item: Planned) -> dict[str, Any]:
    return {
        "paradigm": paradigm(item.recipe),
        "params": dict(item.params),
        "steps": item.steps,
        "recipe": item.recipe.canonical,
    }


def make_plan(
    space: Space,
    epoch_of: EpochOf,
    examples: int = 0,
    stored: Callable[[list[Planned]], int | None] | None = None,
    foreseen: bool = True,
) -> Plan:
    """Draw the trials of a search, and count what they train.

    Args:
        space: what is searched; its search block says how many trials, by which sampler.
        epoch_of: iterations in an epoch of a recipe.
        examples: size of the training set, where it is not known before the data are read; 0 otherwise.
        stored: counts the steps of trials that are stored (`stored_steps.stored_steps`), or says None where that cannot
            be known; None: nobody looks.
        foreseen: whether to ask a sampler that learns what it expects to spend, which takes seconds in a large space.

    Raises:
        UserError: not one valid trial could be drawn.
    """
    asked, facts = space.search["trials"], Named.of(axes.SAMPLERS, space.search["sampler"]).entry(axes.SAMPLERS).facts
    exact = bool(facts.independent)
    draw = _proposed if exact else _at_random
    items = list(draw(space, epoch_of, examples, min(asked, MAX_DRAWN)))
    if not items:
        raise UserError("no valid trial could be sampled from this space")
    trials = asked if len(items) == min(asked, MAX_DRAWN) else len(items)
    scale = trials / len(items)
    longest: dict[str, int] = {}
    users: Counter[str] = Counter()
    for item in items:
        for vertex in item.branch.vertices():
            longest[vertex.address] = max(vertex.needed, longest.get(vertex.address, 0))
            users[vertex.address] += 1
    there = None if stored is None else stored(items)
    shared, unshared = sum(longest.values()), sum(item.steps for item in items)
    states = _states(items, longest)
    return Plan(
        trials=trials,
        drawn=len(items),
        exact=exact and trials == len(items),
        recipes=round(scale * len({digest_of(item.recipe.canonical) for item in items})),
        roots=len({item.branch.train.address for item in items}),
        vertices=round(scale * len(longest)),
        segments=round(scale * sum(users.values())),
        steps_unshared=round(scale * unshared),
        steps_shared=round(scale * shared),
        steps_controls=_controls(space, epoch_of, items),
        scheduler_share=_scheduler_share(space, items, users, shared),
        states=round(scale * len(states)),
        states_on_the_way=round(scale * sum(state.on_the_way for state in states)),
        states_of_masks=round(scale * sum(state.masked for state in states)),
        first=tuple(items[:SHOWN_RECIPES]),
        warnings=(
            *told(space.search),
            *_cheaper(space),
            *_warnings(space, items, unshared / shared if shared else 1.0),
            *_unequal(space, items),
        ),
        steps_stored=None if there is None else round(scale * there),
        steps_finalists=_finalists(space, items),
        steps_expected=expected_spend(space, epoch_of, examples) if foreseen and facts.expects else None,
    )


def _planned(recipe: Recipe, params: Mapping[str, Any], epoch_of: EpochOf) -> Planned:
    timeline, branch = nominal_branch(recipe, epoch_of(recipe) or 1)
    return Planned(recipe, params, timeline, branch)


def _proposed(space: Space, epoch_of: EpochOf, examples: int, count: int) -> Iterator[Planned]:
    """The trials of a sampler that does not learn, as they will be proposed."""
    proposer = Proposer(space, epoch_of, examples)
    for number in range(1, count + 1):
        proposal = proposer.propose(number, [], None)
        if proposal is None:
            return
        yield _planned(proposal.recipe, proposal.params, epoch_of)


def _at_random(space: Space, epoch_of: EpochOf, examples: int, count: int) -> Iterator[Planned]:
    """Trials drawn uniformly from the space; invalid draws are drawn again, as in a search."""
    draw = AtRandom(random.Random(derive(space.search["seed"], "plan")))
    found = 0
    for _ in range(MAX_DRAWS_PER_TRIAL * count):
        if found == count:
            return
        drawn = space.fill(draw, examples=examples)
        try:
            item = _planned(drawn.recipe(), drawn.params, epoch_of)
        except UserError:
            # A region of the space is invalid, which `validate` tells of.
            continue
        found += 1
        yield item


def _controls(space: Space, epoch_of: EpochOf, items: list[Planned]) -> int:
    """The dense network; and, as for a trial of mean length, the dense network at its steps and its shuffled mask."""
    if not space.search["controls"]:
        return 0
    dense = _planned(dense_recipe(space), {}, epoch_of)
    known = {item.branch.train.address for item in items if item.timeline.trained >= dense.timeline.trained}
    mean = sum(item.steps for item in items) / len(items)
    last = sum(item.branch.rounds[-1].retrain.needed for item in items) / len(items)
    return round((0 if dense.branch.train.address in known else dense.steps) + mean + last)


def _finalists(space: Space, items: list[Planned]) -> int:
    """As many trials of mean length as there are repetitions; those on one seed may share some of it."""
    asked = space.search.get("finalists")
    return 0 if asked is None else round(asked["count"] * asked["seeds"] * sum(i.steps for i in items) / len(items))


@dataclass(frozen=True)
class _PlannedState:
    """A state that a search stores.

    Attributes:
        address: of its segment.
        step: of the segment.
        on_the_way: whether training goes on from it: it holds the optimizer's buffers.
        masked: whether it was trained under a mask.
    """

    address: str
    step: int
    on_the_way: bool
    masked: bool


def _states(items: Iterable[Planned], longest: Mapping[str, int]) -> set[_PlannedState]:
    """The furthest state of every segment, and on trajectory 1 the places that are asked for and the coarse grid."""
    found: set[_PlannedState] = set()
    for item in items:
        for vertex in item.branch.vertices():
            furthest = longest[vertex.address]
            masked = vertex.place.startswith(MASKED)
            if furthest:
                found.add(_PlannedState(vertex.address, furthest, furthest < vertex.steps, masked))
        train, line = item.branch.train, item.timeline
        furthest = longest.get(train.address, 0)
        coarse = (round(train.steps * part / GRID) for part in range(1, GRID))
        for place in {line.k1, *(() if line.k2 is None else (line.k2,)), *coarse}:
            if 0 < place < furthest:
                found.add(_PlannedState(train.address, place, True, False))
    return found


def _scheduler_share(space: Space, items: list[Planned], users: Mapping[str, int], shared: int) -> float:
    """The share of all steps that are not trained where the scheduler stops as many trials as it can.

    At each place of the last retraining where it judges, a share of the trials goes on. What other trials need too is
    trained anyway, and chains are judged after a round among those of equal sparsity only, which share it.
    """
    scheduler = Named.of(axes.SCHEDULERS, space.search["scheduler"])
    share = float(scheduler.entry(axes.SCHEDULERS).facts.keeps(**scheduler.options))
    if share >= 1.0 or not shared:
        return 0.0
    saved = 0.0
    for item in items:
        last = item.branch.rounds[-1].retrain
        if users.get(last.address, 0) != 1:
            continue
        judge = make_stopping_rule(space.search["scheduler"], item.timeline.epoch)
        stops = [*judge.measure_at(last.needed), last.needed]
        going_on = 1.0
        for begin, end in pairwise(stops):
            going_on *= share
            saved += (1 - going_on) * (end - begin)
    return saved / shared


def _warnings(space: Space, items: list[Planned], ceiling: float) -> Iterator[str]:
    """What keeps the trials of a space from sharing more."""
    chains = [item for item in items if item.recipe.rounds > 1]
    asked = {(item.recipe.mask.sparsity.final, item.recipe.rounds) for item in chains}
    finals = {(final, rounds) for final, rounds in asked if final is not None}
    if len(finals) > 1 and len({rounds for _, rounds in finals}) > 1:
        yield (
            "trials in rounds share only their first training: sparsity and rounds are both searched, so each "
            "pair prunes another fraction per round. To share all rounds, set mask.sparsity: {per_round: P}"
        )
    elif len(finals) > 1:
        yield (
            "trials in rounds with different final sparsities share only their first training. To share all rounds, "
            "set mask.sparsity: {per_round: P}"
        )
    roots = len({item.branch.train.address for item in items if item.branch.train.needed})
    if roots > 1 and roots > len(items) / 2:
        holes = sorted({path for item in items for path in item.params if path.split(".")[0] in ("task", "train")})
        yield (
            f"{roots} of {len(items)} trials begin differently ({', '.join(holes) or 'task or train'} is searched), "
            "so hardly any training before the mask is shared"
        )
    if ceiling < FEW_SHARED and not finals and roots <= len(items) / 2:
        yield "the sampled trials share hardly any training: most of it comes after the mask and is each trial's own"


def _cheaper(space: Space) -> Iterator[str]:
    """What low-fidelity trials add."""
    if labels := [one.label for one in fidelities_of(space.search)]:
        yield (
            f"low-fidelity trials ({'; '.join(labels)}) are not counted in these figures: they come on top of the "
            "trials, and never ask for more than half the steps of the trials"
        )


def _unequal(space: Space, items: list[Planned]) -> Iterator[str]:
    """What makes a comparison at equal steps unfair: retrainings of several lengths."""
    compared = []
    for item in items:
        length = item.branch.rounds[-1].retrain.needed
        marks = make_stopping_rule(space.search["scheduler"], item.timeline.epoch).measure_at(length).values()
        if any(isinstance(mark, int) for mark in marks):
            compared.append(length)
    if compared and max(compared) > UNEQUAL * min(compared):
        name = Named.of(axes.SCHEDULERS, space.search["scheduler"]).name
        yield (
            f"{name} compares retrainings of {min(compared):,} to {max(compared):,} steps at equal steps, where "
            "longer ones are behind even if they end better; {name: asha, grace: 10%} compares at equal shares of each"
        )
