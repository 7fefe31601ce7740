"""Presets whose mask moves during training."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.axes import PRESETS

Blocks = dict[str, Any]


@PRESETS.register(
    "gradual-magnitude",
    summary="magnitude pruning along a cubic path during training",
    source="Zhu & Gupta 2017, To Prune or Not to Prune, 1710.01878",
)
def gradual_magnitude() -> Blocks:
    """Everything is kept at k1; the dynamics prune."""
    dynamics = {
        "name": "gradual",
        "criterion": "magnitude",
        "path": "cubic",
        "from": "5%",
        "until": "75%",
        "every": "100it",
    }
    return {
        "mask": {"at": "0it", "criterion": "all", "sparsity": 0.9, "scope": "global"},
        "weights": {"at": "0it"},
        "retrain": {"until": "end", "dynamics": dynamics},
    }


def _moving(criterion: str, sparsity: float, scope: str, dynamics: Blocks) -> Blocks:
    return {
        "mask": {"at": "0it", "criterion": criterion, "sparsity": sparsity, "scope": scope},
        "weights": {"at": "0it"},
        "retrain": {"until": "end", "dynamics": dynamics},
    }


@PRESETS.register(
    "set",
    summary="sparse from the start: every epoch, small weights are dropped and as many grow at random",
    source="Mocanu et al. 2018, Scalable Training of ANNs with Adaptive Sparse Connectivity, 1707.04780",
)
def set_() -> Blocks:
    """Erdős-Rényi densities."""
    return _moving("random", 0.9, "er", {"name": "set", "drop": 0.3, "every": "1ep", "until": "end"})


@PRESETS.register(
    "rigl",
    summary="sparse from the start: small weights are dropped, and as many grow by their gradient",
    source="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners, 1911.11134",
)
def rigl() -> Blocks:
    """Erdős-Rényi-kernel densities, events until three quarters of training."""
    dynamics = {"name": "rigl", "drop": 0.3, "anneal": "cosine", "every": "100it", "until": "75%"}
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
    """A random walk over networks of a constant number of connections."""
    return _moving("random", 0.9, "erk", {"name": "deepr", "alpha": 1.0e-4, "temperature": 1.0e-5})


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
    return _moving("all", 0.9, "uniform", dynamics)
