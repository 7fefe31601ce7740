"""Which parameters of a network can be pruned, what they are called, and which networks are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.shards import check_whole, resharded

PRUNABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
SHOWN = 5
# Where the class of a user's module names the parameters that are its weights.
DECLARED = "prunable_parameters"


def _plain(module: nn.Module) -> tuple[str, ...]:
    return ("weight",)


def _recurrent(module: nn.Module) -> tuple[str, ...]:
    names: list[str] = module._flat_weights_names  # type: ignore[assignment]
    return tuple(name for name in names if name.startswith("weight"))


def _cell(module: nn.Module) -> tuple[str, ...]:
    return ("weight_ih", "weight_hh")


def _attention(module: nn.Module) -> tuple[str, ...]:
    # Of one shape for all three, or each of its own.
    packed: bool = module._qkv_same_embed_dim  # type: ignore[assignment]
    return ("in_proj_weight",) if packed else ("q_proj_weight", "k_proj_weight", "v_proj_weight")


def _declared(module: nn.Module) -> tuple[str, ...]:
    """What a module of the user's says that its weights are: the names of parameters of its own."""
    said = getattr(module, DECLARED, ())
    return tuple(said) if isinstance(said, list | tuple) else ()


@dataclass(frozen=True)
class LayerKind:
    """A kind of layers that have prunable weights.

    Attributes:
        is_one: whether a module is of it.
        weights: the names of its own prunable parameters.
        output_rows: whether a row of the weight, as [outputs, inputs, …], makes one output of the layer: where not,
            outputs cannot be removed one by one.
        turned: whether a linear weight is stored as [inputs, outputs].
        of_experts: whether the weights are those of experts in one tensor, or route to such: they go as whole experts
            only.
    """

    is_one: Callable[[nn.Module], bool]
    weights: Callable[[nn.Module], tuple[str, ...]]
    output_rows: bool = True
    turned: bool = False
    of_experts: bool = False


def is_turned(module: nn.Module) -> bool:
    """Whether a module is a linear layer as transformers has it: named Conv1D, its weight [inputs, outputs]."""
    named = any(base.__name__ == "Conv1D" for base in type(module).__mro__)
    weight = module._parameters.get("weight")
    return named and not isinstance(module, PRUNABLE) and (weight is None or weight.dim() == 2)


def stacked_weights(module: nn.Module) -> tuple[str, ...]:
    """The names of the weights [experts, …] of a module that has all experts of a block in them; empty of others.

    It is called …Experts, as those of transformers are, and its parameters of three dimensions have one first size.
    """
    named = any("Experts" in base.__name__ for base in type(module).__mro__)
    found = {name: one for name, one in module._parameters.items() if one is not None and one.dim() == 3}
    counts = {one.shape[0] for one in found.values()}
    return tuple(found) if named and len(counts) == 1 and counts != {1} else ()


def counts_experts(module: nn.Module, count: int) -> bool:
    """Whether a layer may choose from so many experts: it has a weight [experts, inputs] of its own."""
    weight = module._parameters.get("weight")
    return (
        weight is not None and weight.dim() == 2 and weight.shape[0] == count and not isinstance(module, nn.Embedding)
    )


def _chooses_experts(module: nn.Module) -> bool:
    """Whether a module is a router of transformers: with a weight of its own, and the number of experts in words."""
    count = getattr(module, "num_experts", None)
    known = isinstance(count, int) and not isinstance(module, PRUNABLE) and not is_turned(module)
    return known and counts_experts(module, count)  # type: ignore[arg-type]


KINDS = (
    LayerKind(lambda module: isinstance(module, PRUNABLE), _plain),
    LayerKind(lambda module: isinstance(module, nn.RNNBase), _recurrent, output_rows=False),
    LayerKind(lambda module: isinstance(module, nn.RNNCellBase), _cell, output_rows=False),
    LayerKind(lambda module: isinstance(module, nn.MultiheadAttention), _attention, output_rows=False),
    LayerKind(is_turned, _plain, turned=True),
    LayerKind(lambda module: bool(stacked_weights(module)), stacked_weights, output_rows=False, of_experts=True),
    LayerKind(_chooses_experts, _plain, of_experts=True),
    # Which of its dimensions are outputs, only the network's graph says.
    LayerKind(lambda module: bool(_declared(module)), _declared, output_rows=False),
)


def kind_of(module: nn.Module) -> LayerKind | None:
    """The kind of a module; None where it has no prunable weights of its own."""
    if isinstance(module, torch.jit.ScriptModule):
        return None
    return next((kind for kind in KINDS if kind.is_one(module)), None)


def own_weights(module: nn.Module) -> tuple[str, ...]:
    """The names of the prunable parameters that a module itself has."""
    kind = kind_of(module)
    return kind.weights(module) if kind is not None else ()


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that can be pruned, in the order of the modules.

    They are those of linear and convolutional layers, of recurrent layers (LSTM, GRU, RNN and their cells), of
    attention (`nn.MultiheadAttention`), of transformers' Conv1D, and of its experts that are stacked in one tensor; and
    the parameters that a module of any other kind names in its attribute `prunable_parameters`.

    Returns:
        Parameter name to parameter. The names are those of `named_parameters`: a tied parameter is there once, under
        the name that it has there, whichever of its modules makes it prunable.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights: dict[str, nn.Parameter] = {}
    for _, module in model.named_modules():
        for leaf in own_weights(module):
            weight = module._parameters.get(leaf)
            if weight is not None:
                weights.setdefault(names[id(weight)], weight)
    return weights


def holders(model: nn.Module) -> dict[str, list[tuple[str, nn.Module]]]:
    """Per prunable weight, the layers that have it, as (name, module): several where it is tied."""
    names = {id(weight): name for name, weight in prunable_weights(model).items()}
    found: dict[str, list[tuple[str, nn.Module]]] = {}
    for prefix, module in model.named_modules():
        for leaf in own_weights(module):
            if (name := names.get(id(module._parameters.get(leaf)))) is not None:
                found.setdefault(name, []).append((prefix, module))
    return found


def other_names(model: nn.Module) -> dict[str, str]:
    """From every name that a tied prunable weight has besides, to its name in `prunable_weights`."""
    names = {id(weight): name for name, weight in prunable_weights(model).items()}
    everywhere = model.named_parameters(remove_duplicate=False)
    return {
        name: names[id(parameter)]
        for name, parameter in everywhere
        if id(parameter) in names and name != names[id(parameter)]
    }


def parametrized_weights(model: nn.Module) -> list[str]:
    """Prunable weights that are computed from other parameters (weight_norm and the like)."""
    return [
        f"{prefix}.{leaf}" if prefix else leaf
        for prefix, module in model.named_modules()
        for leaf in own_weights(module)
        if not isinstance(module._parameters.get(leaf), nn.Parameter)
    ]


def has_computed_bias(module: nn.Module) -> bool:
    """Whether the bias of a layer is computed from other parameters."""
    return "bias" not in module._parameters and isinstance(getattr(module, "bias", None), torch.Tensor)


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule) and any(True for _ in module.parameters(recurse=False))


def _uninitialized(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if nn.parameter.is_lazy(parameter)]


def _declares_wrongly(prefix: str, module: nn.Module) -> str:
    """What is wrong with the parameters that a module says are its weights; empty where nothing is."""
    said = getattr(module, DECLARED, ())
    where = f"{DECLARED} of {prefix or 'the network'} ({type(module).__name__})"
    if not isinstance(said, list | tuple) or not all(isinstance(one, str) for one in said):
        return f"{where}: must be a tuple of names, as {DECLARED} = ('weight',)"
    if said and own_weights(module) != tuple(said):
        return f"{where}: a layer of this kind has {listed(own_weights(module)) or 'none'} pruned, and nothing else"
    own = module._parameters
    for name in said:
        computed = isinstance(getattr(module, name, None), torch.Tensor) and name not in own
        if computed and name not in module._buffers:
            continue  # refused as what it is, see `parametrized_weights`
        weight = own.get(name)
        if weight is None:
            return f"{where}: it has no parameter {name} of its own (it has {listed(list(own)) or 'none'})"
        if weight.dim() < 2:
            return f"{where}: {name} has {weight.dim()} dimensions, and a weight has at least two"
    return ""


def undeclared(model: nn.Module) -> list[str]:
    """Parameters of a module's own that may be weights, and are pruned only if the module says so.

    They have two dimensions or more with more than one place, and torch.nn does not have their module's class.
    """
    whole = left_whole(model)
    return [
        name
        for prefix, module in model.named_modules()
        if not _of_torch(module)
        for leaf, one in module._parameters.items()
        if one is not None
        and sum(size > 1 for size in one.shape) > 1
        and (name := f"{prefix}.{leaf}" if prefix else leaf) in whole
    ]


def _of_torch(module: nn.Module) -> bool:
    held = isinstance(module, nn.ParameterList | nn.ParameterDict)
    return type(module).__module__.startswith("torch.nn.") and not held


def declaring(names: list[str]) -> str:
    """What to do about such parameters, in words; empty where there are none."""
    if not names:
        return ""
    return (
        f"{listed(names)}: held by a module itself; if the network multiplies with it, name it in "
        f"{DECLARED} of the module's class, as {DECLARED} = ({names[0].rpartition('.')[2]!r},)"
    )


def check_network(model: nn.Module, path: str = "model", sharded: bool = False, outline: bool = False) -> None:
    """Refuse a network that no mask can be found for.

    Args:
        model: the network.
        path: what messages call it.
        sharded: whether each worker may hold a part of it only; it then gives up what it has gathered of the others.
        outline: whether its values are drawn or read later.

    Raises:
        UserError: it is no network, or has no parameters, lazy ones, such as have no values, such as torch.jit has
            compiled, or prunable ones that are computed from others; or none to prune.
    """
    given: object = model
    if not isinstance(given, nn.Module):
        got = f"the class {given.__name__}: pass an instance" if isinstance(given, type) else type(given).__name__
        raise UserError([Problem(path, f"must be a torch.nn.Module (got {got})")])
    if scripted := [prefix or "the network" for prefix, module in model.named_modules() if _is_scripted(module)]:
        text = f"{listed(scripted)}: compiled by torch.jit, so its layers cannot be seen; pass the uncompiled network"
        raise UserError([Problem(path, text)])
    if lazy := _uninitialized(model):
        text = f"{listed(lazy)}: without a shape until the network has run once: run it on an example first"
        raise UserError([Problem(path, text)])
    if not outline and (empty := [name for name, parameter in model.named_parameters() if parameter.is_meta]):
        raise UserError([Problem(path, f"{listed(empty)}: on the device meta, without values: load them first")])
    if sharded:
        resharded(model)
    else:
        check_whole(model, path)
    wrong = [text for prefix, module in model.named_modules() if (text := _declares_wrongly(prefix, module))]
    if wrong:
        raise UserError([Problem(path, text) for text in wrong])
    if computed := parametrized_weights(model):
        text = (
            f"{listed(computed)}: computed from other parameters (weight_norm?), so a mask cannot hold it; make it "
            "a parameter first with remove_parametrizations, remove_weight_norm or prune.remove of torch.nn.utils"
        )
        raise UserError([Problem(path, text)])
    if not prunable_weights(model):
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        has = f" (its parameters: {listed(list(sizes))})" if sizes else " (it has no parameters at all)"
        hint = declaring(undeclared(model))
        text = f"has no convolution or linear weight to prune{has}{'; ' if hint else ''}{hint}"
        raise UserError([Problem(path, text)])


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Some of many names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def left_whole(model: nn.Module) -> Mapping[str, int]:
    """The parameters with more than one dimension that cannot be pruned, with their sizes."""
    prunable = {id(weight) for weight in prunable_weights(model).values()}
    return {name: p.numel() for name, p in model.named_parameters() if p.dim() > 1 and id(p) not in prunable}
