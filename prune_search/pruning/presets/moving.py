"""Presets whose mask moves during training."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.facts import Preset

Blocks = dict[str, Any]
DEEPR_RATE = 0.5


@PRESETS.register(
    "gradual-magnitude",
    summary="magnitude pruning along a cubic path during training",
    source="Zhu & Gupta 2017, To Prune or Not to Prune, 1710.01878",
    facts=Preset(also=({"mask": {"scope": "global"}},)),
)
def gradual_magnitude() -> Blocks:
    """Everything is kept at k1; the dynamics prune every layer to the same sparsity.

    The paper prunes every 100 to 1000 steps of a long training; here the events are at twentieths of any.
    """
    dynamics = {
        "name": "gradual",
        "criterion": "magnitude",
        "path": "cubic",
        "from": "5%",
        "until": "75%",
        "every": "5%",
    }
    return {
        "mask": {"at": "0it", "criterion": "all", "sparsity": 0.9, "scope": "uniform"},
        "weights": {"at": "0it"},
        "retrain": {"until": "end", "dynamics": dynamics},
    }


def _moving(criterion: str, sparsity: float, scope: str | Blocks, dynamics: Blocks) -> Blocks:
    return {
        "mask": {"at": "0it", "criterion": criterion, "sparsity": sparsity, "scope": scope},
        "weights": {"at": "0it"},
        "retrain": {"until": "end", "dynamics": dynamics},
    }


@PRESETS.register(
    "set",
    summary="sparse from the start: every epoch, small weights are dropped and as many grow at random",
    source="Mocanu et al. 2018, Scalable Training of ANNs with Adaptive Sparse Connectivity, 1707.04780",
    facts=Preset(also=({"retrain": {"dynamics": "set"}},)),
)
def set_() -> Blocks:
    """Erdős-Rényi densities; positive and negative weights are dropped apart, as in algorithm 1."""
    dynamics = {"name": "set", "drop": 0.3, "every": "1ep", "until": "end", "signs": "apart"}
    return _moving("random", 0.9, "er", dynamics)


@PRESETS.register(
    "rigl",
    summary="sparse from the start: small weights are dropped, and as many grow by their gradient",
    source="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners, 1911.11134",
)
def rigl() -> Blocks:
    """Erdős-Rényi-kernel densities, events until three quarters of training.

    The paper has an event every 100 of some 100,000 steps. A short training would have one, so it is a tenth of any.
    """
    dynamics = {"name": "rigl", "drop": 0.3, "anneal": "cosine", "every": "10%", "until": "75%"}
    return _moving("random", 0.9, "erk", dynamics)


@PRESETS.register(
    "snfs",
    summary="sparse from the start: small weights are dropped, and grow by momentum, also in other layers",
    source="Dettmers & Zettlemoyer 2019, Sparse Networks from Scratch, 1907.04840",
)
def snfs() -> Blocks:
    """Half of the weights move in the first epoch, a two hundredth in the last."""
    dynamics = {"name": "snfs", "drop": 0.5, "anneal": "cosine", "to": 0.005, "every": "1ep"}
    return _moving("random", 0.95, "uniform", dynamics)


@PRESETS.register(
    "deepr",
    summary="sparse from the start: a weight that crosses zero is replaced by another, at random",
    source="Bellec, Kappel, Maass & Legenstein 2018, Deep Rewiring, 1711.05136",
)
def deepr() -> Blocks:
    """A random walk over networks of a constant number of connections, by plain gradient descent.

    The released code adds η·ν to the weights, ν of standard deviation 1e-5: that is the temperature η·1e-10/2. Its
    rate is 0.5 throughout in the version with sparse matrices; the others lower it by a fifth after each of 10 epochs.
    """
    blocks = _moving("random", 0.9, "erk", {"name": "deepr", "alpha": 1.0e-5, "temperature": DEEPR_RATE * 1.0e-10 / 2})
    blocks["retrain"]["optimizer"] = {"name": "sgd", "lr": DEEPR_RATE, "momentum": 0.0, "weight_decay": 0.0}
    blocks["train"] = {"schedule": "constant"}
    return blocks


@PRESETS.register(
    "gibbs",
    summary="dense weights under random masks that are annealed to the final one",
    source="Labach & Valaee 2020, A Framework for Neural Network Pruning Using Gibbs Distributions, 2006.04981",
)
def gibbs() -> Blocks:
    """Unstructured, as in the released example: 128 values of β from 1 to 10,000 in as many of 200 epochs.

    The first convolution and the classifier are not pruned there.
    """
    beta = {"path": "exponential", "from": 1.0, "to": 1.0e4, "until": "64%", "last": "before"}
    dynamics = {"name": "gibbs", "hamiltonian": "weight", "beta": beta, "coupling": 1.0, "finish": "deterministic"}
    return _moving("all", 0.9, {"name": "uniform", "exclude": ["first", "last"]}, dynamics)
