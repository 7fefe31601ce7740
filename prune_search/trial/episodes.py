"""The segment in which a scope tries the layers' pruned fractions in episodes.

An episode is some steps of the segment: before the first the weights are put back to w(k1) and masked, then they are
trained under the mask, and after the last one the network is measured. Without training an episode is one step, in
which no weight changes. So what holds of all training holds of episodes too: they are counted, stored and shared, and a
trial that is killed goes on in the middle of one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from prune_search.pruning.mask.budgets import spending_of
from prune_search.pruning.mask.fraction_search import (
    Answer,
    Episodes,
    FractionProblem,
    FractionSearcher,
    answer,
    layer_features,
)
from prune_search.pruning.mask.layer_measurements import Measuring
from prune_search.pruning.mask.receipt import search_told
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.mask.scopes.episodic import training_steps
from prune_search.pruning.mask.units import LayerUnits
from prune_search.pruning.mask.variants import CountedMasks, counted_masks
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe import axes
from prune_search.recipe.clock import base_rate
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Named
from prune_search.training.loop import Course, Feed, Hook, Network
from prune_search.training.segment import MODEL, load_model
from prune_search.trial.how_trained import training_network
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup

Tensors = Mapping[str, Tensor]
PLACE, HOOK = "mask.scope", "episodes"
SEARCHER, NOW, FOUND, FIGURES = "searcher/", "now", "found", "figures"

_log = logging.getLogger("prune_search")


def searching(
    setup: TrialSetup, rule: MaskRule, number: int, state: Callable[[], Tensors]
) -> tuple[Callable[[], Tensors], Callable[[], Course], Network]:
    """Where such a segment begins, how it goes, and the network that it is trained in.

    Args:
        setup: the recipe, the data and the network.
        rule: its scope searches.
        number: the round, from 1.
        state: w(k1).
    """
    options = rule.scope.options
    trained = training_steps(setup.timeline.epoch, **options)

    def begin() -> Tensors:
        return {key: value for key, value in state().items() if key.startswith(MODEL)}

    def course() -> Course:
        dense = begin()
        load_model(setup.model, dense)
        masks = counted_masks(setup.model, rule, scoring_data(setup, number))
        problem = _problem(setup, rule, masks, number)
        searcher = rule.scope.entry(axes.SCOPES).facts.search
        assert searcher is not None  # else there is no such segment
        named = Named.of(axes.OPTIMIZERS, options["optimizer"])
        optimizer = setup.optimizer(named)
        search: Any = searcher(problem, **options)
        runner = EpisodeRunner(
            setup, dense, masks, problem, search, optimizer, max(1, trained), options["reward_on"], rule.scope.name
        )
        rate = base_rate(named)
        return Course(optimizer, setup.feed(PLACE, number), 0, lambda step: rate, [runner.hook()])

    network = training_network(setup)
    return begin, course, network if trained else replace(network, gradients=_untrained)


def _untrained(network: Network, feed: Feed, number: int) -> Tensor:
    """A step in which nothing is trained: no gradients, so that the optimizer changes nothing."""
    return torch.zeros((), device=network.device)


def _problem(setup: TrialSetup, rule: MaskRule, masks: CountedMasks, number: int) -> FractionProblem:
    """What is searched for.

    Raises:
        UserError: the budget is below what is left with the largest fraction pruned of every layer.
    """
    options = rule.scope.options
    spent, dense = _spending(masks.layers, masks.measuring, options)
    ((kind, share),) = options["budget"].items()
    problem = FractionProblem(
        layers=masks.layers,
        features=layer_features(setup.model, masks.layers),
        budget=100.0 * share,
        spent=spent,
        dense=dense,
        episodes=options["episodes"],
        most=options["most"],
        least=options.get("least", 0),
        rounding=rule.rounding,
        seed=setup.recipe.seed,
        words=(PLACE, number),
    )
    floor = problem.cost(problem.deepest)
    if floor > problem.budget:
        text = (
            f"is {share:g} of the {kind}, and {floor / 100:.4g} are left with {options['most']:g} of every layer "
            "pruned: raise it, or mask.scope.most"
        )
        raise UserError([Problem("mask.scope.budget", text)])
    return problem


def _spending(
    layers: list[LayerUnits], measuring: Measuring, options: Mapping[str, Any]
) -> tuple[Callable[[Mapping[str, int]], float], float]:
    """What counts of kept units cost, and what all units do."""
    ((kind, _),) = options["budget"].items()
    sizes = {layer.name: layer.units for layer in layers}
    spending = spending_of(sizes, measuring, options.get("costs") or kind)
    return spending.total, spending.whole


@dataclass
class EpisodeRunner:
    """Runs one episode after the other, as a hook of the training loop.

    Attributes:
        setup: the recipe, the data and the network.
        dense: w(k1), that every episode begins with.
        masks: makes masks of counts.
        problem: what is searched for.
        searcher: who proposes.
        optimizer: of the training within an episode; every episode begins with empty buffers.
        steps: of an episode.
        split: on which the reward is measured.
        name: of the scope, for messages.
    """

    setup: TrialSetup
    dense: Tensors
    masks: CountedMasks
    problem: FractionProblem
    searcher: FractionSearcher
    optimizer: torch.optim.Optimizer
    steps: int
    split: str
    name: str

    def __post_init__(self) -> None:
        self.episodes = Episodes(len(self.problem.layers))
        self.now: Tensor | None = None
        self.kept: list[int] = []
        self.keeper: Hook | None = None
        self.answer: Answer | None = None

    def before_step(self, step: int) -> None:
        """Begin an episode at its first step: propose, put the weights back, and mask them."""
        if step % self.steps:
            return
        load_model(self.setup.model, self.dense)
        self.optimizer.state.clear()
        self.now = self.searcher.propose(self.episodes)
        self._mask(self.now)

    def _mask(self, actions: Tensor) -> None:
        fractions = self.problem.clipped(actions, len(self.episodes)).tolist()
        counts = self.problem.counts(fractions)
        names = [layer.name for layer in self.problem.layers]
        kept = self.masks.at(dict(zip(names, counts, strict=True)))
        # What is counted is the mask itself: of channels in multiples, say, fewer than asked for can be left.
        self.kept = [int(kept[name].sum()) for name in names]
        self.keeper = MaskKeeper(self.setup.model, self.masks.applied(kept), self.optimizer).hook()

    def after_backward(self, step: int) -> None:
        """Removed weights have no gradient."""
        if self.keeper is not None and self.keeper.after_backward is not None:
            self.keeper.after_backward(step)

    def after_step(self, step: int) -> None:
        """After the last step of an episode measure the network, and let the searcher learn."""
        if self.keeper is not None and self.keeper.after_step is not None:
            self.keeper.after_step(step)
        if (step + 1) % self.steps or self.now is None:
            return
        self.episodes.add(self.now, self.kept, self.problem.cost(self.kept), self._reward())
        self.now, self.keeper = None, None
        self.searcher.told(self.episodes)

    def _reward(self) -> float:
        """The accuracy in percent, or minus the loss where the task has none; what is not finite is the worst, -inf."""
        scores = self.setup.scores(self.split, self.setup.model)
        found = 100.0 * scores["accuracy"] if "accuracy" in scores else -scores["loss"]
        return found if math.isfinite(found) else -math.inf

    def at_start(self) -> None:
        """In the middle of an episode go on under its mask."""
        if self.now is not None:
            self._mask(self.now)

    def at_end(self) -> None:
        """Put the weights back, and answer."""
        load_model(self.setup.model, self.dense)
        self.now, self.keeper = None, None
        self.answer = answer(self.problem, self.episodes)
        if not self.answer.feasible or self.episodes.ruined:
            _log.warning("%s: %s", self.name, search_told(self.figures()))

    def figures(self) -> dict[str, float]:
        """What the receipt says of the search."""
        found = answer(self.problem, self.episodes) if self.answer is None else self.answer
        best = {} if found.episode is None else {"reward": float(self.episodes.rewards[found.episode])}
        if found.episode is not None:
            best.update(episode=float(found.episode), episode_cost=float(self.episodes.costs[found.episode]))
        return {
            "budget": self.problem.budget,
            "cost": found.cost,
            "episodes": float(len(self.episodes)),
            "feasible": float(found.feasible),
            **({"ruined": float(self.episodes.ruined)} if self.episodes.ruined else {}),
            **best,
            **self.searcher.summary(),
        }

    def state(self) -> dict[str, Tensor]:
        """The episodes, what the searcher remembers, the open episode's actions, and the answer at the end."""
        found = {**self.episodes.state(), **{SEARCHER + key: one for key, one in self.searcher.state().items()}}
        if self.now is not None:
            found[NOW] = self.now
        if self.answer is not None:
            found[FOUND] = torch.tensor(self.answer.kept)
            found.update({f"{FIGURES}/{k}": torch.tensor(v, dtype=torch.float64) for k, v in self.figures().items()})
        return found

    def load(self, state: Tensors) -> None:
        """Go on from the tensors of `state`."""
        self.episodes = Episodes.of(state)
        self.now = state[NOW].cpu() if NOW in state else None
        self.searcher.load({k.removeprefix(SEARCHER): one for k, one in state.items() if k.startswith(SEARCHER)})

    def hook(self) -> Hook:
        """As a hook of the training loop."""
        return Hook(
            HOOK,
            at_start=self.at_start,
            before_step=self.before_step,
            after_backward=self.after_backward,
            after_step=self.after_step,
            at_end=self.at_end,
            state=self.state,
            load=self.load,
        )


def found_counts(tensors: Tensors) -> list[int]:
    """The kept units per layer that a search ended with, in the order of the layers."""
    return [int(count) for count in tensors[f"hook/{HOOK}/{FOUND}"].tolist()]


def search_figures(tensors: Tensors) -> dict[str, float]:
    """What the receipt says of a search, from its last state."""
    prefix = f"hook/{HOOK}/{FIGURES}/"
    return {key.removeprefix(prefix): float(one) for key, one in tensors.items() if key.startswith(prefix)}
