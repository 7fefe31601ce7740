"""Samplers of Optuna by name. Optuna is imported only when one is created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_search.recipe.axes import SAMPLERS
from prune_search.recipe.facts import Sampler
from prune_search.recipe.fields import Flag, Integer
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from prune_search.search.guided.sampler import GuidedSampler
    from prune_search.search.suggest import Grid


@SAMPLERS.register(
    "random",
    summary="independent uniform draws",
    source="Bergstra & Bengio 2012, Random Search for Hyper-Parameter Optimization",
    facts=Sampler(independent=True),
)
def random(seed: int) -> BaseSampler:
    """Uniform draws from every hole."""
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)


@SAMPLERS.register(
    "tpe",
    summary="tree-structured Parzen estimator, multivariate",
    source="Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; Watanabe 2023, 2304.11127",
    options={"startup": Option(Integer(1, 100_000), 10, "number of random proposals at the start")},
)
def tpe(seed: int, *, startup: int) -> BaseSampler:
    """Proposes where good trials lie dense and bad ones do not; pending trials count as bad."""
    import optuna

    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)


@SAMPLERS.register(
    "nsga2",
    summary="a genetic algorithm for several objectives",
    source="Deb et al. 2002, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II",
    options={"population": Option(Integer(2, 10_000), 20, "number of trials per generation")},
)
def nsga2(seed: int, *, population: int) -> BaseSampler:
    """Selection by non-dominated rank and crowding distance."""
    import optuna

    return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)


@SAMPLERS.register(
    "gp",
    summary="a Gaussian process; takes seconds per proposal, for few and costly trials",
    source="Rasmussen & Williams 2006, Gaussian Processes for Machine Learning",
    options={"startup": Option(Integer(1, 100_000), 10, "number of random proposals at the start")},
)
def gp(seed: int, *, startup: int) -> BaseSampler:
    """Expected improvement under a Gaussian process."""
    import optuna

    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)


@SAMPLERS.register(
    "guided",
    summary="picks the recipe with the most expected gain for the steps that it costs; what is stored costs nothing",
    source=(
        "Jones et al. 1998, Efficient Global Optimization; Snoek et al. 2012, 1206.2944 (improvement per cost); "
        "the prior: Rosenfeld et al. 2021, 2006.10621, and Renda et al. 2020, 2003.02389"
    ),
    options={
        "prior": Option(
            Flag(),
            True,
            "begin with a formula from published findings, which is discounted where results contradict it",
        ),
    },
    facts=Sampler(expects=True),
)
def guided(seed: int, *, prior: bool) -> GuidedSampler:
    """A mixture of Gaussian processes over the measured rounds of all trials, and the price of every recipe."""
    from prune_search.search.guided.sampler import GuidedSampler

    return GuidedSampler(seed, prior)


@SAMPLERS.register(
    "grid",
    summary="every point in a fixed order, with a few values per continuous hole; ends when none is left",
    source="Bergstra & Bengio 2012, Random Search for Hyper-Parameter Optimization",
    options={"points": Option(Integer(1, 1000), 3, "number of values per continuous hole")},
    facts=Sampler(independent=True),
)
def grid(seed: int, *, points: int) -> Grid:
    """Every option of every choice, every whole number (of at most 100) and `points` values of every other range."""
    from prune_search.search.suggest import Grid

    return Grid(points)
