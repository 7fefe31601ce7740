"""Layer fusion: the layers that a mask removes whole and the next layer become one layer, fitted by least squares."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import TRANSFORMS
from prune_search.recipe.facts import Transform
from prune_search.recipe.fields import Integer, Number
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.pruning.weights.affine_fit import Moments
    from prune_search.pruning.weights.context import TransformContext
    from prune_search.pruning.weights.layer_chains import Chain
else:
    from prune_search.lazy import torch

_log = logging.getLogger("prune_search")
# Values of what the outputs see, at a time.
MAX_VALUES = 2**24


def _check_network(model: nn.Module, example: Any, removed: Iterable[str]) -> None:
    from prune_search.pruning.weights.layer_chains import find_chains

    find_chains(model, example, removed)


@TRANSFORMS.register(
    "fuse",
    summary="replaces each removed layer and the layer after it by one, fitted to their outputs by least squares",
    source="Ghods, Lan, Goldstein & Studer 2020, MSE-Optimal Neural Network Initialization via Layer Fusion, "
    "2001.10509",
    options={
        "ridge": Option(Number(0.0, 1e3), 1.0e-6, "what is added to the variances of the inputs"),
        "samples": Option(Integer(1, 10_000_000), 5000, "training examples, at most one epoch"),
    },
    facts=Transform(needs_data=True, granularities=("layer",), reshapes=True, check_network=_check_network),
)
def fuse(setting: TransformContext, *, ridge: float, samples: int) -> None:
    """min E ‖y - (W a₀ + b)‖² + ρ ‖W‖²: a₀ comes into the removed layer, y out of the layer after it.

    W = C_{y a₀} (C_{a₀} + ρ I)⁻¹ and b = E y - W E a₀, with centred covariances in float64. Activations,
    normalizations, poolings and dropout between the two go with the removed layer; batch norms act by their running
    statistics. Two linear layers become a linear layer, two convolutions one convolution with their composite kernel,
    stride and padding (fitted to what each output sees, the padding of zeros included), a convolution before a linear
    layer becomes a linear layer that takes all of a₀. Layers that are removed one after the other become one with the
    next that stays. The network is shallower afterwards: the fused layer has the name and place of the last, the
    others hand on what they are given.

    Raises:
        UserError: a layer cannot be fused; the message says why.
    """
    from prune_search.pruning.weights.affine_fit import affine_fit
    from prune_search.pruning.weights.layer_chains import find_chains
    from prune_search.tasks.layers import prunable_weights
    from prune_search.tasks.passes import twin_of
    from prune_search.training.loop import TrainingError

    if setting.masks is None:
        return
    model = setting.network.model
    removed = [name for name in prunable_weights(model) if name in setting.masks and not setting.masks[name].any()]
    if not removed:
        return
    whole = twin_of(model)
    shown = list(_shown(setting, samples))
    before = sum(parameter.numel() for parameter in model.parameters())
    for chain in find_chains(model, shown[0][:1], removed):
        moments = _moments(model, whole, chain, shown)
        if not all(bool(mean.isfinite().all()) for mean in moments.means()):
            raise TrainingError("nan", f"fuse: the inputs or outputs of {chain.first} are not finite")
        inputs = len(moments.means()[0])
        if moments.count <= inputs:
            text = "fuse: %s was fitted to %d values of each of its %d inputs: more samples would fit better"
            _log.warning(text, chain.into, moments.count, inputs)
        _replace(model, chain, *affine_fit(moments, ridge))
        _check_runs(model, whole, chain, shown[0][:1])
    after = sum(parameter.numel() for parameter in model.parameters())
    _log.info("fuse: %s removed, parameters %d -> %d", ", ".join(removed), before, after)


def _shown(setting: TransformContext, samples: int) -> Iterator[Tensor]:
    """Inputs of so many training examples, batch by batch."""
    from prune_search.pruning.weights.layer_chains import refused

    feed = setting.feed()
    for number in range(feed.epoch):
        inputs: Any = feed(number)[0]
        if not isinstance(inputs, torch.Tensor):
            raise refused(setting.layers[0], "the network takes more than one tensor")
        yield inputs[:samples]
        samples -= len(inputs)
        if samples <= 0:
            return


def _moments(model: nn.Module, whole: nn.Module, chain: Chain, shown: list[Tensor]) -> Moments:
    """Of what comes into the chain, as each output of the fused layer sees it, and of what came out of it before."""
    from prune_search.pruning.weights.affine_fit import Moments
    from prune_search.pruning.weights.layer_chains import tapped
    from prune_search.tasks.passes import eager, evaluating

    first, last = model.get_submodule(chain.first), whole.get_submodule(chain.into)
    moments, given, made = Moments(), [], []
    handle = first.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].clone()))
    try:
        with eager(), evaluating(model), evaluating(whole), tapped({last: lambda value: made.append(value.clone())}):
            for inputs in shown:
                model(inputs)
                whole(inputs)
                _add(moments, chain, given.pop(), made.pop())
    finally:
        handle.remove()
    return moments


def _add(moments: Moments, chain: Chain, given: Tensor, made: Tensor) -> None:
    """Add a batch, as many examples at a time as memory is meant for."""
    kernel = math.prod(chain.fused.options.get("kernel_size", [1]))
    places = math.prod(made.shape[2:]) if made.dim() > 2 else 1
    per_example = max(1, math.prod(given.shape[1:]), int(given.shape[1]) * kernel * places)
    at_a_time = max(1, MAX_VALUES // per_example)
    for x, y in zip(torch.split(given, at_a_time), torch.split(made, at_a_time), strict=True):
        moments.add(*_pairs(chain, x, y))


def _pairs(chain: Chain, given: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """What each output sees, [pairs, inputs], and the outputs, [pairs, outputs]."""
    from prune_search.tasks.fusion import without_memory
    from prune_search.tasks.patches import patches

    options = chain.fused.options
    if chain.fused.kind == "Linear":
        return given.reshape(-1, options["in_features"]), made.reshape(-1, options["out_features"])
    seen = patches(without_memory(chain.fused), given)
    if seen is None:
        raise ValueError(f"a {chain.fused.kind} has no patches")
    return seen.reshape(-1, seen.shape[-1]), made.flatten(2).transpose(1, 2).reshape(-1, made.shape[1])


def _replace(model: nn.Module, chain: Chain, weight: Tensor, bias: Tensor) -> None:
    """Put the fused layer in its place; all others keep their tensors."""
    from prune_search.tasks.fusion import RECORD, restructured

    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    gone = {f"{name}." for name in (*chain.fused.bypassed, chain.into)}
    kept = {name: tensor for name, tensor in tensors.items() if not any(name.startswith(part) for part in gone)}
    old = model.get_submodule(chain.into).get_parameter("weight")
    sides = [weight.shape[0], -1, *chain.fused.options.get("kernel_size", [])]
    kept[f"{chain.into}.weight"] = weight.reshape(sides).to(old.dtype)
    kept[f"{chain.into}.bias"] = bias.to(old.dtype)
    kept[f"{chain.into}.{RECORD}"] = chain.fused.encoded()
    restructured(model, kept)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            tensor.copy_(kept[name])


def _check_runs(model: nn.Module, whole: nn.Module, chain: Chain, example: Tensor) -> None:
    """See that the network runs, and makes what it made but for the values."""
    from prune_search.pruning.weights.layer_chains import refused
    from prune_search.tasks.passes import eager, evaluating
    from prune_search.tasks.structures import tensors_in

    with eager(), evaluating(model), evaluating(whole):
        wanted = [tensor.shape for tensor in tensors_in(whole(example))]
        try:
            shapes = [tensor.shape for tensor in tensors_in(model(example))]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            lines = str(error).splitlines() or [""]
            raise refused(chain.first, f"the network does not run without it ({lines[0][:200]})") from error
    if shapes != wanted:
        raise refused(chain.first, f"without it the outputs are {shapes} instead of {wanted}")
