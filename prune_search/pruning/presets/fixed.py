"""Presets with one mask per round, found after training or at initialization, and the controls."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.facts import Preset

LOTTERY = "Frankle & Carbin 2019, The Lottery Ticket Hypothesis, 1803.03635"
RENDA = "Renda, Frankle & Carbin 2020, Comparing Rewinding and Fine-tuning, 2003.02389"
SNIP = "Lee, Ajanthan & Torr 2019, SNIP, 1810.02340"
GRASP = "Wang, Zhang & Grosse 2020, Picking Winning Tickets Before Training, 2002.07376"
SYNFLOW = "Tanaka, Kunin, Yamins & Ganguli 2020, Pruning Neural Networks Without Any Data, 2006.05467"
FORCE = "de Jorge et al. 2021, Progressive Skeletonization, 2006.09081"
GREG = "Wang et al. 2021, Neural Pruning via Growing Regularization, 2012.09243"
LIU = "Liu et al. 2019, Rethinking the Value of Network Pruning, 1810.05270"
THEORY = "Yang, Liang, Guo, Wu & Wang 2023, How Neural Network Pruning Affects its Generalization, 2301.00335"
FUSE = "Ghods, Lan, Goldstein & Studer 2020, MSE-Optimal Neural Network Initialization via Layer Fusion, 2001.10509"
OBS = "Hassibi & Stork 1992, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon"

Blocks = dict[str, Any]


def _global_magnitude(sparsity: Any) -> Blocks:
    return {"at": "end", "criterion": "magnitude", "sparsity": sparsity, "scope": "global"}


def _twenty_percent_per_round() -> Blocks:
    return _global_magnitude({"per_round": 0.2})


@PRESETS.register(
    "dense", summary="control: the dense network, nothing pruned", source="Frankle & Carbin 2019, 1803.03635"
)
def dense() -> Blocks:
    """Train, and stop there."""
    return {"mask": {"at": "end", "criterion": "all", "sparsity": 0}, "weights": {"at": "end"}, "retrain": "none"}


@PRESETS.register(
    "random",
    summary="control: a random mask at initialization, Erdős–Rényi-kernel densities",
    source="Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning, 2202.02643",
)
def random() -> Blocks:
    """A random mask, trained from the start."""
    return {
        "mask": {"at": "0it", "criterion": "random", "sparsity": 0.9, "scope": "erk"},
        "weights": {"at": "0it"},
        "retrain": {"until": "end"},
    }


@PRESETS.register(
    "random-global",
    summary="a random mask at initialization, all weights alike; a two-layer network on sparse signals in noise",
    source=THEORY,
)
def random_global() -> Blocks:
    """The paper keeps each weight with a chance; here exactly as many are kept as that chance keeps on average.

    Gradient descent on all examples at once, without momentum or penalty, from a small initialization. The paper's
    conditions are on orders of magnitude: the numbers are this project's, at which both of its regimes show.
    """
    train = {
        "steps": "2000it",
        "batch": 10,
        "init": {"name": "normal", "std": 0.03},
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0},
        "schedule": "constant",
    }
    mask = {"at": "0it", "criterion": "random", "sparsity": 0.95, "scope": "global"}
    task = {"data": "sparse-signal", "model": "two-layer"}
    return {"task": task, "train": train, "mask": mask, "weights": {"at": "0it"}, "retrain": {"until": "end"}}


@PRESETS.register(
    "magnitude-after-training",
    summary="prune the trained network by magnitude, then continue training at a small rate",
    source="Han et al. 2015, Learning both Weights and Connections, 1506.02626",
)
def magnitude_after_training() -> Blocks:
    """One-shot global magnitude pruning."""
    return {
        "mask": _global_magnitude(0.9),
        "weights": {"at": "end"},
        "retrain": {"steps": "5ep", "clock": {"hold": 0.001}},
    }


@PRESETS.register(
    "lottery-ticket",
    summary="iterative magnitude pruning; weights are rewound to initialization after each round",
    source=LOTTERY,
)
def lottery_ticket() -> Blocks:
    """1 - .8^11 = .914 after eleven rounds."""
    return {
        "mask": _twenty_percent_per_round(),
        "weights": {"at": "0it"},
        "retrain": {"until": "end"},
        "rounds": 11,
    }


@PRESETS.register(
    "late-rewinding",
    summary="iterative magnitude pruning; weights are rewound to an early step of training",
    source="Frankle et al. 2019, Stabilizing the Lottery Ticket Hypothesis, 1903.01611",
)
def late_rewinding() -> Blocks:
    """The clock follows the weights: it goes on at the step that they are rewound to.

    The paper rewinds to step 500 of 30,000, which is past the end of a short training: here it is 2% of any.
    """
    return {
        "mask": _twenty_percent_per_round(),
        "weights": {"at": "2%"},
        "retrain": {"until": "end"},
        "rounds": 11,
    }


@PRESETS.register(
    "fine-tune", summary="one-shot magnitude pruning, then training continues at the final rate", source=RENDA
)
def fine_tune() -> Blocks:
    """The first of Renda's three."""
    return {
        "mask": _global_magnitude(0.9),
        "weights": {"at": "end"},
        "retrain": {"steps": "4ep", "clock": {"hold": "final"}},
    }


@PRESETS.register("weight-rewinding", summary="weights and learning rate rewound a few epochs", source=RENDA)
def weight_rewinding() -> Blocks:
    """The second of Renda's three."""
    return {"mask": _global_magnitude(0.9), "weights": {"at": "end-4ep"}, "retrain": {"until": "end"}}


@PRESETS.register(
    "learning-rate-rewinding",
    summary="iterative magnitude pruning; weights are kept and only the learning rate is rewound",
    source=RENDA,
)
def learning_rate_rewinding() -> Blocks:
    """The third of Renda's three, in rounds."""
    return {
        "mask": _twenty_percent_per_round(),
        "weights": {"at": "end"},
        "retrain": {"until": "end", "clock": "end-4ep"},
        "rounds": 11,
    }


def _at_initialization(mask: Blocks) -> Blocks:
    return {
        "mask": {"at": "0it", **mask, "scope": "global"},
        "weights": {"at": "0it"},
        "retrain": {"until": "end"},
    }


@PRESETS.register("snip", summary="connection sensitivity at initialization, one shot", source=SNIP)
def snip() -> Blocks:
    """The released TensorFlow code trains a separately drawn initialization: ``weights.transform: [reinit]``."""
    score = {"batches": 1, "loss": "cross-entropy", "mode": "train"}
    return _at_initialization({"criterion": "snip", "score": score, "sparsity": 0.95})


@PRESETS.register("grasp", summary="gradient signal preservation at initialization, one shot", source=GRASP)
def grasp() -> Blocks:
    """Ten examples of every class, logits over 200."""
    criterion = {"name": "grasp", "temperature": 200}
    return _at_initialization({"criterion": criterion, "score": {"per_class": 10}, "sparsity": 0.95})


@PRESETS.register(
    "synflow", summary="synaptic flow at initialization, in a hundred iterations, no data", source=SYNFLOW
)
def synflow() -> Blocks:
    """The flow of the masked network, in double precision."""
    score = {"iterations": 100, "path": "exponential", "nested": True, "mode": "eval"}
    criterion = {"name": "synflow", "dtype": "float64"}
    return _at_initialization({"criterion": criterion, "score": score, "sparsity": 0.98})


@PRESETS.register("force", summary="snip in sixty iterations; removed weights can come back", source=FORCE)
def force() -> Blocks:
    """Foresight connection sensitivity, not nested."""
    score = {"iterations": 60, "path": "exponential", "nested": False}
    return _at_initialization({"criterion": "snip", "score": score, "sparsity": 0.99})


@PRESETS.register("iterative-snip", summary="snip in sixty iterations; removed weights stay removed", source=FORCE)
def iterative_snip() -> Blocks:
    """What one iteration removed stays removed."""
    score = {"iterations": 60, "path": "exponential", "nested": True}
    return _at_initialization({"criterion": "snip", "score": score, "sparsity": 0.99})


def _growing_penalty(**options: Any) -> Blocks:
    return {
        "name": "growing-penalty",
        "step": 1.0e-4,
        "every": "10it",
        "ceiling": 1.0,
        **options,
        "stabilise": "10000it",
        "optimizer": {"lr": 1.0e-3},
    }


def _filters(**more: Any) -> Blocks:
    return {"at": "end", **more, "criterion": "l1", "sparsity": 0.5, "scope": "uniform", "granularity": "filter"}


def _greg_filters(**more: Any) -> Blocks:
    """The released commands leave the first convolution whole, as the classifier is here in any case.

    In residual networks they leave the last convolution of every block whole too, to be named in ``exclude``.
    """
    return {**_filters(**more), "scope": {"name": "uniform", "exclude": ["first"]}, "rounding": "floor-keep"}


def _greg_retrain() -> Blocks:
    schedule = {"name": "step", "rates": [1.0e-2, 1.0e-3, 1.0e-4], "at": ["60ep", "90ep"]}
    return {"steps": "120ep", "schedule": schedule}


@PRESETS.register("greg-1", summary="a growing penalty on the filters to remove, then removal", source=GREG)
def greg_1() -> Blocks:
    """Growing regularization on a set chosen at the start."""
    return {
        "mask": _greg_filters(),
        "weights": {"at": "end", "transform": [_growing_penalty()]},
        "retrain": _greg_retrain(),
    }


@PRESETS.register(
    "greg-2",
    summary="a rising penalty on all filters picks those to remove, then grows on them",
    source=GREG,
    facts=Preset(also=({"mask": {"prepare": "rising-penalty"}},)),
)
def greg_2() -> Blocks:
    """Growing regularization on a set chosen by the response to a rising penalty.

    As in the released code, the set is picked in the step of the rising penalty's last increment (``hold``), before any
    training under it.
    """
    rising = {
        "name": "rising-penalty",
        "step": 1.0e-5,
        "every": "10it",
        "until": 1.0e-2,
        "hold": False,
        "optimizer": {"lr": 1.0e-3},
    }
    return {
        "mask": _greg_filters(prepare=rising),
        "weights": {"at": "prepared", "transform": [_growing_penalty(kept=-1.0e-4, hold="10it")]},
        "retrain": _greg_retrain(),
    }


@PRESETS.register(
    "sbp-sr",
    summary="snip on a stable residual network at the edge of chaos; kept weights are rescaled to it",
    source="Hayou, Ton, Doucet & Teh 2021, Robust Pruning at Initialization, 2002.08797",
)
def sbp_sr() -> Blocks:
    """Residual branches over the root of their number, and the rescaling trick."""
    blocks = _at_initialization({"criterion": "snip", "sparsity": 0.99})
    blocks["task"] = {"model": {"name": "resnet-20", "residual_scale": "inverse-sqrt-depth"}}
    blocks["train"] = {"init": {"name": "edge-of-chaos", "sigma_b": 0.0}}
    blocks["weights"]["transform"] = ["edge-of-chaos-rescale"]
    return blocks


@PRESETS.register(
    "functional-prior",
    summary="snip on weights drawn from a prior close to a Gaussian process, which also sets the weight decay",
    source="Tran, Rossi, Milios & Filippone 2022, All You Need is a Good Functional Prior, 2011.12829",
)
def functional_prior() -> Blocks:
    """An adaptation: the paper prunes nothing, and samples the posterior. The search for the prior is a short one."""
    blocks = _at_initialization({"criterion": "snip", "sparsity": 0.9})
    blocks["train"] = {"init": {"name": "functional-prior"}, "optimizer": {"weight_decay": "from-prior"}}
    return blocks


@PRESETS.register(
    "early-bird",
    summary="channels ranked by batch norm scales, pruned as soon as the mask is stable",
    source="You et al. 2020, Drawing Early-Bird Tickets, 1909.11957",
)
def early_bird() -> Blocks:
    """k2 = k1, wherever that is found. The L1 penalty on the scales stays on after it, as in the released commands."""
    at = {"stable": "mask-distance", "below": 0.1, "window": "5ep", "latest": "50%"}
    mask = {"at": at, "criterion": "batchnorm-scale", "sparsity": 0.5, "scope": "global", "granularity": "channel"}
    return {
        "train": {"batchnorm_l1": 1.0e-4},
        "mask": mask,
        "weights": {"at": "mask"},
        "retrain": {"until": "end", "clock": "mask"},
    }


@PRESETS.register(
    "scratch-b",
    summary="the pruned architecture with new random weights, trained for the same number of operations",
    source=LIU,
)
def scratch_b() -> Blocks:
    """As scratch-e, but as long as the dense network's operations last, at most twice the steps."""
    return {
        "mask": _filters(),
        "weights": {"at": "0it", "transform": ["reinit"]},
        "retrain": {"steps": {"same_flops_as": "train", "at_most": 2.0}, "clock": "0it", "stretch": True},
    }


@PRESETS.register(
    "scratch-e",
    summary="the pruned architecture with new random weights, trained for the same number of epochs",
    source=LIU,
)
def scratch_e() -> Blocks:
    """Does the inherited weight matter, or only the architecture?"""
    return {
        "mask": _filters(),
        "weights": {"at": "0it", "transform": ["reinit"]},
        "retrain": {"until": "end"},
    }


@PRESETS.register("obs", summary="optimal brain surgeon: kept weights compensate for removed ones", source=OBS)
def obs() -> Blocks:
    """Blocks of the empirical Fisher matrix choose and compensate."""
    criterion = {"name": "obs", "block": 256, "damping": 1.0e-4}
    mask = {"at": "end", "criterion": criterion, "score": {"batches": 16}, "sparsity": 0.5, "scope": "uniform"}
    return {
        "mask": mask,
        "weights": {"at": "end", "transform": ["obs-compensation"]},
        "retrain": {"steps": "1ep", "clock": {"hold": "final"}},
    }


@PRESETS.register(
    "thinet",
    summary="layer by layer, removes the channels that the next layer needs least and scales the rest",
    source="Luo, Wu & Lin 2017, ThiNet, 1707.06342",
    facts=Preset(also=({"weights": {"transform": ["least-squares-reconstruction"]}},)),
)
def thinet() -> Blocks:
    """Greedy choice by the next layer's output, then one factor per channel by least squares."""
    criterion = {"name": "output-reconstruction", "samples": 1000}
    scope = {"name": "uniform", "order": "sequential"}
    return {
        "mask": {"at": "end", "criterion": criterion, "sparsity": 0.5, "scope": scope, "granularity": "channel"},
        "weights": {"at": "end", "transform": ["least-squares-scaling"]},
        "retrain": {"steps": "2ep", "clock": {"hold": "final"}},
    }


@PRESETS.register(
    "fuse-init",
    summary="the last layer is fused into the next by least squares, and the shallower network trained; three times",
    source=FUSE,
    facts=Preset(also=({"rounds": 1}, *({"rounds": rounds, "retrain": {"clock": "50%"}} for rounds in (1, 3)))),
)
def fuse_init() -> Blocks:
    """Four convolutions become one; each network is trained as long as the first, at the same rates.

    The network and its training are those of the task: ``search_spaces/fuse_init.yaml`` has the paper's beside its own.
    """
    return {
        "mask": {"at": "end", "criterion": "last", "sparsity": {"layers": 1}, "granularity": "layer"},
        "weights": {"at": "end", "transform": [{"name": "fuse", "ridge": 1.0e-6, "samples": 5000}]},
        "retrain": {"until": "end", "clock": "0it"},
        "rounds": 3,
    }


@PRESETS.register(
    "control-shuffle",
    summary="control: snip's densities with each layer's mask shuffled and the weights reinitialized",
    source="Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark?, 2009.08576",
)
def control_shuffle() -> Blocks:
    """The same densities, another mask."""
    blocks = _at_initialization({"criterion": "snip", "sparsity": 0.9, "control": "shuffle"})
    blocks["weights"]["transform"] = ["reinit"]
    return blocks
