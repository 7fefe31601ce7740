"""Initializers: how w(0) is drawn.

Every parameter is drawn by itself from a generator that its own name seeds, on the CPU in float32, and then copied in.
So a weight depends on the seed, its name and its shape, and not on the order of the modules, the device or what else
the network holds. A parameter that several modules share belongs to the first of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import INITS
from prune_search.recipe.facts import Initializer
from prune_search.recipe.fields import Number, Word
from prune_search.recipe.registry import Option
from prune_search.tasks.shards import is_sharded, resharded, write_whole
from prune_search.training.edge_of_chaos import ACTIVATIONS, known_edge
from prune_search.training.functional_prior import SEARCH_SEED, STREAM, find_prior
from prune_search.training.initialized import Initialized, Inputs
from prune_search.training.prior_options import OPTIONS, search_of
from prune_search.training.randomness import derive, generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    from prune_search.lazy import torch

Draw = Callable[["Tensor", "torch.Generator"], "Tensor"]
BY_LAYER = Initializer(by_layer=True)
# What modules that draw themselves are asked by.
RESETS = ("reset_parameters", "_reset_parameters")


@INITS.register(
    "kaiming",
    summary="normal with variance 2 / fan-in, biases 0",
    source="He, Zhang, Ren, Sun 2015, arXiv 1502.01852, eq. 10",
    facts=BY_LAYER,
)
def kaiming(model: nn.Module, seed: int, stream: str = "init") -> None:
    """Draw the weights of `model` from N(0, 2 / fan_in), in place; biases are 0, normalisation layers start anew.

    Args:
        model: the network, on any device.
        seed: the trial's seed.
        stream: what it is drawn for; another stream gives other weights.

    Example:
        The weights of ``nn.Linear(50, 10)`` have a standard deviation of sqrt(2 / 50) = 0.2.
    """
    _initialize(model, seed, stream, weight=lambda w, g: _normal(w, math.sqrt(2.0 / _fans(w)[0]), g), bias=_zeros)


@INITS.register(
    "xavier",
    summary="normal with variance 2 / (fan-in + fan-out), biases 0",
    source="Glorot, Bengio 2010, AISTATS, eq. 12",
    facts=BY_LAYER,
)
def xavier(model: nn.Module, seed: int, stream: str = "init") -> None:
    """Draw the weights of `model` from N(0, 2 / (fan_in + fan_out)), in place; else as `kaiming`.

    The paper asks for this variance (eq. 12) and draws uniformly (eq. 16); pruning papers use the normal form.
    """
    _initialize(model, seed, stream, weight=lambda w, g: _normal(w, math.sqrt(2.0 / sum(_fans(w))), g), bias=_zeros)


@INITS.register(
    "normal",
    summary="normal with a given standard deviation in every layer, biases 0",
    source="common in theory; small initializations: Yang et al. 2023, 2301.00335",
    facts=BY_LAYER,
    options={"std": Option(Number(0.0, 1e3, above=True), 0.01, "standard deviation of the weights")},
)
def normal(model: nn.Module, seed: int, stream: str = "init", *, std: float) -> None:
    """Draw the weights of `model` from N(0, std²), whatever their fan-in, in place; else as `kaiming`.

    Args:
        model: the network, on any device.
        seed: the trial's seed.
        stream: what it is drawn for.
        std: above 0.
    """
    _initialize(model, seed, stream, weight=lambda w, g: _normal(w, std, g), bias=_zeros)


@INITS.register(
    "kaiming-uniform",
    summary="uniform within ± 1 / sqrt(fan-in), biases too: torch's default",
    source="torch.nn.Linear and torch.nn.Conv2d, reset_parameters",
    facts=BY_LAYER,
)
def kaiming_uniform(model: nn.Module, seed: int, stream: str = "init") -> None:
    """Draw weights and biases of `model` from U(-b, b) with b = 1 / sqrt(fan_in of the weight), in place."""

    def draw(weight: Tensor, parameter: Tensor, source: torch.Generator) -> Tensor:
        bound = 1.0 / math.sqrt(_fans(weight)[0])
        return (torch.rand(parameter.shape, generator=source) * 2.0 - 1.0) * bound

    _initialize(model, seed, stream, weight=lambda w, g: draw(w, w, g), bias=draw)


@INITS.register(
    "signed-constant",
    summary="a random sign times sqrt(2 / (density · fan-in)), biases 0",
    source="Ramanujan et al. 2020, 1911.13299, section 4.2 (signed Kaiming constant; with a density: scaled fan)",
    facts=BY_LAYER,
    options={"density": Option(Number(0.0, 1.0, above=True), 1.0, "share of the fan-in that the mask will keep")},
)
def signed_constant(model: nn.Module, seed: int, stream: str = "init", *, density: float = 1.0) -> None:
    """Weights of `model` are ±sqrt(2 / (density * fan_in)), in place; else as `kaiming`, with whose signs they agree.

    Args:
        model: the network, on any device.
        seed: the trial's seed.
        stream: what it is drawn for.
        density: above 0, at most 1.
    """

    def draw(weight: Tensor, source: torch.Generator) -> Tensor:
        signs = torch.where(torch.randn(weight.shape, generator=source) < 0, -1.0, 1.0)
        return signs * math.sqrt(2.0 / (density * _fans(weight)[0]))

    _initialize(model, seed, stream, weight=draw, bias=_zeros)


@INITS.register(
    "edge-of-chaos",
    summary="normal weights and biases with variances at which signals neither vanish nor explode with depth",
    source="Schoenholz et al. 2017, 1611.01232; Hayou et al. 2019, 1902.06853; for pruning 2021, 2002.08797",
    facts=BY_LAYER,
    options={
        "sigma_b": Option(Number(0.0, 100.0), 0.0, "standard deviation of the biases"),
        "activation": Option(Word(tuple(ACTIVATIONS)), "relu", "activation of the network", later=True),
        "multiplier": Option(
            Number(0.0, 100.0, above=True), 1.0, "factor on the weights: below 1 ordered, above 1 chaotic", later=True
        ),
    },
)
def edge_of_chaos(
    model: nn.Module, seed: int, stream: str = "init", *, sigma_b: float, activation: str, multiplier: float
) -> None:
    """Draw weights from N(0, (multiplier · σ_w)² / fan_in) and biases from N(0, σ_b²), in place; else as `kaiming`.

    Args:
        model: the network, on any device.
        seed: the trial's seed.
        stream: what it is drawn for.
        sigma_b: of the biases, at least 0.
        activation: its σ_w is solved for, see `edge_of_chaos`.
        multiplier: above 0; 1 is the edge.

    Raises:
        UserError: the activation has no edge of chaos with these biases.
    """
    sigma_w = multiplier * known_edge(activation, sigma_b).sigma_w

    def bias(weight: Tensor, parameter: Tensor, source: torch.Generator) -> Tensor:
        return _normal(parameter, sigma_b, source)

    _initialize(model, seed, stream, weight=lambda w, g: _normal(w, sigma_w / math.sqrt(_fans(w)[0]), g), bias=bias)


@INITS.register(
    "functional-prior",
    summary="a Gaussian prior per layer under which the network's functions are like those of a Gaussian process",
    source="Tran, Rossi, Milios & Filippone 2022, All You Need is a Good Functional Prior, 2011.12829, algorithm 1",
    options=OPTIONS,
    facts=Initializer(measures=True, prior=True),
)
def functional_prior(
    model: nn.Module,
    seed: int,
    stream: str = "init",
    *,
    inputs: Inputs,
    gp: dict[str, Any],
    prior: str,
    **numbers: Any,
) -> Initialized:
    """Draw weights from N(0, σ_w² / fan_in) and biases from N(0, σ_b²) with each layer's own σ, in place.

    The σ (or the inverse gammas of σ², from which each is drawn once) are found by `find_prior` from training inputs;
    they do not depend on the seed, the weights do. Linear and convolution layers have a prior; all other modules are
    drawn as in `kaiming`. The paper samples a posterior with this prior; to begin an ordinary training with a draw of
    it is an adaptation.

    Args:
        model: the network, on any device.
        seed: the trial's seed.
        stream: what it is drawn for.
        inputs: gives inputs of training examples.
        gp: the Gaussian process, canonical.
        prior: ``gaussian`` or ``hierarchical``.
        numbers: the other options.

    Returns:
        The distances and the σ; the variances of the prior.

    Raises:
        UserError: the inputs or the network do not fit.
    """

    def settle(twin: nn.Module) -> None:
        _initialize(twin, SEARCH_SEED, STREAM, weight=lambda w, g: torch.zeros(w.shape), bias=_zeros)

    found = find_prior(model, search_of(gp, prior, numbers), inputs, settle)
    drawn = {name: one.draw(generator(seed, stream, name, "variance")) for name, one in found.variances.items()}
    owned = {model.get_parameter(name): variance for name, variance in drawn.items()}

    def weight(parameter: Tensor, source: torch.Generator) -> Tensor:
        return _normal(parameter, math.sqrt(owned[parameter] / _fans(parameter)[0]), source)  # type: ignore[index]

    def bias(of: Tensor, parameter: Tensor, source: torch.Generator) -> Tensor:
        return _normal(parameter, math.sqrt(owned[parameter]), source)  # type: ignore[index]

    _initialize(model, seed, stream, weight=weight, bias=bias)
    fans = {name: _fans(model.get_parameter(name))[0] for name in drawn if model.get_parameter(name).ndim > 1}
    variances = {name: one.typical / fans.get(name, 1) for name, one in found.variances.items()}
    return Initialized(found.figures(), variances)


@INITS.register(
    "as-built",
    summary="the weights that the model's own factory made",
    source="the model's own",
    facts=Initializer(draws=False),
)
def as_built(model: nn.Module, seed: int, stream: str = "init") -> None:
    """Leave `model` as it is; the seed and the stream are for whoever made it."""


def _initialize(
    model: nn.Module, seed: int, stream: str, weight: Draw, bias: Callable[[Tensor, Tensor, torch.Generator], Tensor]
) -> None:
    """Apply one rule to linear and convolution layers, and let every other module that can draw itself do so."""
    resharded(model)
    done: set[Tensor] = set()
    with torch.no_grad():
        # Parents come before their children, so a layer's own rule has the last word over what its parent drew.
        for name, module in model.named_modules():
            if not _is_layer(module):
                _redraw(module, derive(seed, stream, name), done)
                continue
            for leaf, parameter in _fresh(module, done).items():
                source = generator(seed, stream, f"{name}.{leaf}" if name else leaf)
                if parameter is module.weight:
                    write_whole(parameter, weight(parameter, source))
                elif parameter is module.bias:
                    write_whole(parameter, bias(module.weight, parameter, source))


def _fresh(module: nn.Module, done: set[Tensor]) -> dict[str, nn.Parameter]:
    """The module's own parameters that no earlier module has had."""
    fresh = {leaf: parameter for leaf, parameter in module.named_parameters(recurse=False) if parameter not in done}
    done.update(fresh.values())
    return fresh


def _redraw(module: nn.Module, seed: int, done: set[Tensor]) -> None:
    """Have a module draw its own parameters and reset its own buffers, on a copy on the CPU.

    nn.MultiheadAttention and a few others have ``_reset_parameters`` only. The parameters of a module that has neither
    stay as they were built.
    """
    if not any(hasattr(module, word) for word in RESETS):
        return
    parameters, buffers = _fresh(module, done), dict(module.named_buffers(recurse=False))
    if not parameters and not buffers:
        return
    if is_sharded(module):
        from prune_search.tasks.sharded_twin import whole_copy

        twin = whole_copy(module)
    else:
        twin = copy.deepcopy(module).cpu()
    _reset(twin, seed)
    for leaf, parameter in parameters.items():
        write_whole(parameter, twin.get_parameter(leaf))
    for leaf, buffer in buffers.items():
        buffer.copy_(twin.get_buffer(leaf))


def _reset(module: nn.Module, seed: int) -> None:
    """Have a module on the CPU draw itself."""
    method = next(word for word in RESETS if hasattr(module, word))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every accelerator too
        getattr(module, method)()


def _is_layer(module: nn.Module) -> bool:
    """Whether an initializer's own rule is for it."""
    return isinstance(module, (torch.nn.Linear, torch.nn.modules.conv._ConvNd))


def is_drawn(module: nn.Module, leaf: str) -> bool:
    """Whether initializers that draw layer by layer draw a parameter of a module, whatever it was.

    Args:
        module: that has the parameter.
        leaf: its name there.
    """
    return leaf in ("weight", "bias") if _is_layer(module) else any(hasattr(module, word) for word in RESETS)


def undrawn(model: nn.Module) -> list[str]:
    """Why initializers that draw layer by layer cannot give a network values that it has not got, a reason each.

    Args:
        model: some of its parameters are on the device meta; left as it was.
    """
    from prune_search.tasks.outlines import filled

    done: set[Tensor] = set()
    reasons = []
    for name, module in model.named_modules():
        if not _is_layer(module) and not any(hasattr(module, word) for word in RESETS):
            continue
        fresh = _fresh(module, done)
        empty = [leaf for leaf, parameter in fresh.items() if parameter.is_meta]
        called = f"{name or 'the network'} ({type(module).__name__})"
        if lost := [leaf for leaf in empty if not is_drawn(module, leaf)]:
            reasons.append(f"no layer draws {lost[0]} of {called}")
        elif empty and not _is_layer(module):
            # Whatever it drew from what was there before is not a number now.
            twin = filled(module, math.nan)
            with torch.no_grad():
                _reset(twin, 0)
            if any(twin.get_parameter(leaf).isnan().any() for leaf in empty):
                reasons.append(f"{called} does not draw all of its parameters anew")
    left = [name for name, parameter in model.named_parameters() if parameter.is_meta and parameter not in done]
    reasons += [f"no layer draws {name}" for name in left]
    return reasons


def _fans(weight: Tensor) -> tuple[int, int]:
    """Fan-in and fan-out as torch counts them: from dimensions 1 and 0, for transposed convolutions too."""
    receptive = math.prod(weight.shape[2:])
    return max(weight.shape[1] * receptive, 1), max(weight.shape[0] * receptive, 1)


def fan_in(weight: Tensor) -> int:
    """Number of inputs per output unit of a weight [out, in, …], as torch counts them."""
    return _fans(weight)[0]


def _normal(weight: Tensor, deviation: float, source: torch.Generator) -> Tensor:
    return torch.randn(weight.shape, generator=source) * deviation


def _zeros(weight: Tensor, parameter: Tensor, source: torch.Generator) -> Tensor:
    return torch.zeros(parameter.shape)
