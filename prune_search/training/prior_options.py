"""The options of the initializer functional-prior, and how its Gaussian process is written in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe.fields import Either, Integer, Number, Word, child, read_block
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.registry import Option
from prune_search.training.functional_prior import GAUSSIAN, HIERARCHICAL, PriorSearch
from prune_search.training.gaussian_processes import KERNELS, GaussianProcess
from prune_search.training.wasserstein import CriticTraining

AUTO = "auto"
_POSITIVE = Number(0.0, 1e6, above=True)
GP = {
    "kernel": Option(Word(tuple(KERNELS)), "rbf", "rbf, linear, or arc-cosine: a wide layer of ReLUs"),
    "amplitude": Option(_POSITIVE, 1.0, "a: the kernel has the factor a²"),
    "lengthscale": Option(
        Either(((str, Word((AUTO,))), ((int, float), _POSITIVE))),
        AUTO,
        "length scale of rbf; auto: the root mean square distance of two inputs, √(2D) for D standardized ones",
    ),
    "bias": Option(Number(0.0, 1e6), 0.0, "b of linear and arc-cosine, which add b²"),
    "noise": Option(Number(0.0, 1e6), 0.0, "standard deviation of white noise that is part of the functions"),
}


@dataclass(frozen=True)
class GaussianProcessField:
    """A mapping with the kernel and its numbers."""

    def describe(self) -> str:
        return f"a mapping with the keys {', '.join(GP)}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        value = read_block(GP, raw, path, reading)
        if value is BAD or any(one is BAD for one in value.values()):
            return value
        kernel = value["kernel"]
        if KERNELS[kernel].stationary and value["bias"] != 0.0:
            return reading.wrong(child(path, "bias"), f"is not used by the kernel {kernel}: leave it out")
        if not KERNELS[kernel].stationary and value["lengthscale"] != AUTO:
            return reading.wrong(child(path, "lengthscale"), f"is not used by the kernel {kernel}: leave it out")
        return value


OPTIONS = {
    "gp": Option(GaussianProcessField(), {}, "the Gaussian process that the network's functions shall be like"),
    "prior": Option(
        Word((GAUSSIAN, HIERARCHICAL)), GAUSSIAN, "variances of a layer: known, or drawn from inverse gammas"
    ),
    "points": Option(Integer(1, 1000), 20, "training inputs at which functions are compared, new ones per iteration"),
    "functions": Option(Integer(2, 10_000), 8, "networks that are drawn per iteration; each output is a function"),
    "iterations": Option(Integer(1, 100_000), 50, "steps of RMSprop on the parameters of the prior"),
    "rate": Option(_POSITIVE, 0.05, "learning rate of RMSprop"),
    "critic_steps": Option(Integer(1, 100_000), 20, "steps of Adagrad on each iteration's critic"),
    "critic_rate": Option(_POSITIVE, 0.05, "learning rate of Adagrad"),
    "critic_units": Option(Integer(1, 10_000), 50, "in each of the critic's two hidden layers"),
}


def search_of(gp: Mapping[str, Any], prior: str, numbers: Mapping[str, Any]) -> PriorSearch:
    """The search that canonical options ask for.

    Args:
        gp: the canonical mapping.
        prior: ``gaussian`` or ``hierarchical``.
        numbers: the other options.
    """
    lengthscale = None if gp["lengthscale"] == AUTO else gp["lengthscale"]
    process = GaussianProcess(gp["kernel"], gp["amplitude"], lengthscale, gp["bias"], gp["noise"])
    units = numbers["critic_units"]
    critic = CriticTraining(numbers["critic_steps"], numbers["critic_rate"], hidden=(units, units))
    return PriorSearch(
        process, prior, numbers["points"], numbers["functions"], numbers["iterations"], numbers["rate"], critic
    )
