"""The layers' pruned fractions as an Optuna study: the episodes of `ppo-lagrangian`, with TPE or random proposals.

It stands here, and not beside the other scopes, since only this package imports optuna.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prune_search.pruning.mask.scopes.episodic import EPISODIC, episodic, found_pools
from prune_search.recipe.axes import SCOPES
from prune_search.recipe.fields import Integer, Word
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.mask.fraction_search import Episodes, FractionProblem, FractionSearcher
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.units import LayerUnits
else:
    from prune_search.lazy import torch

PROPOSERS = ("tpe", "random")


@dataclass(frozen=True)
class RandomFractions:
    """Uniform fractions of each layer, 0 to what the episode may prune.

    Attributes:
        problem: what is searched for.
    """

    problem: FractionProblem

    def propose(self, episodes: Episodes) -> Tensor:
        """The actions of the next episode, float64 [L]."""
        from prune_search.training.randomness import generator

        draw = generator(self.problem.seed, "random fractions", *self.problem.words, len(episodes))
        drawn = torch.rand(len(self.problem.layers), generator=draw, dtype=torch.float64)
        return drawn * self.problem.cap(len(episodes))

    def told(self, episodes: Episodes) -> None:
        """Nothing is learned."""

    def state(self) -> dict[str, Tensor]:
        """Nothing: each draw is made from the episode's number."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to go on from."""

    def summary(self) -> dict[str, float]:
        """No figures of its own."""
        return {}


@dataclass
class StudiedFractions:
    """Optuna's TPE over one fraction per layer, with the constraint cost - budget ≤ 0.

    Every proposal has a study of its own, over the episodes so far, and its sampler draws from the episode's number: a
    search that was interrupted goes on with the same proposals.

    Attributes:
        problem: what is searched for.
        startup: random proposals at the start.
    """

    problem: FractionProblem
    startup: int
    _trials: list[Any] = field(default_factory=list)

    def propose(self, episodes: Episodes) -> Tensor:
        """The actions of the next episode, float64 [L]."""
        import optuna

        from prune_search.search.optuna_study import OneStudy, placed
        from prune_search.training.randomness import derive

        names = [f"{place}:{layer.name}" for place, layer in enumerate(self.problem.layers)]
        space = {name: optuna.distributions.FloatDistribution(0.0, self.problem.most) for name in names}
        for place in range(len(self._trials), len(episodes)):
            done = optuna.trial.create_trial(
                params=dict(zip(names, episodes.actions[place].tolist(), strict=True)),
                distributions=dict(space),
                value=float(episodes.rewards[place]),
                constraints={"budget": float(episodes.costs[place]) - self.problem.budget},
            )
            self._trials.append(placed(done, place))
        seed = derive(self.problem.seed, "study", *self.problem.words, len(episodes)) % 2**32
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup, multivariate=True)
        study = optuna.create_study(storage=OneStudy(self._trials), sampler=sampler, direction="maximize")
        asked = study.ask(fixed_distributions=dict(space))
        return torch.tensor([asked.params[name] for name in names], dtype=torch.float64)

    def told(self, episodes: Episodes) -> None:
        """The next proposal looks at all episodes."""

    def state(self) -> dict[str, Tensor]:
        """Nothing besides the episodes."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to go on from besides the episodes."""

    def summary(self) -> dict[str, float]:
        """No figures of its own."""
        return {}


def _search(problem: FractionProblem, **options: Any) -> FractionSearcher:
    makers: Mapping[str, Callable[[], FractionSearcher]] = {
        "tpe": lambda: StudiedFractions(problem, options["startup"]),
        "random": lambda: RandomFractions(problem),
    }
    return makers[options["sampler"]]()


@SCOPES.register(
    "fractions-study",
    summary="layer fractions proposed by TPE or at random in episodes, within a budget: a baseline for ppo-lagrangian",
    source="Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; the episodes of 2110.08558",
    options={
        **EPISODIC,
        "sampler": Option(Word(PROPOSERS), "tpe", "who proposes"),
        "startup": Option(Integer(1, 100_000), 10, "random proposals at the start of tpe"),
    },
    facts=episodic(_search),
)
def fractions_study(
    layers: list[LayerUnits],
    share: Decimal | None,
    rounding: str = "half-up",
    /,
    *,
    found: Mapping[str, int] | None,
    least: int = 0,
    **options: Any,
) -> list[Pool]:
    """One pool per layer, with the units of the best episode within the budget.

    The episodes are those of `ppo-lagrangian`, all layers' fractions of one proposed at once.

    Args:
        layers: that take part.
        share: kept share of all units, on the way to what was found; None: at the end of it.
        rounding: of counts.
        found: kept units per layer, from the trial's search.
        least: units that each layer keeps at least.
        options: of the search.

    Raises:
        UserError: nothing was searched for.
    """
    return found_pools(layers, share, rounding, found, least)
