"""Digests of a network's weights and code, and the list of its prunable parameters."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prune_search.tasks.digest import ordered_tensors_digest
from prune_search.tasks.sources import described, enclosed, source

PRUNABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
# The code of torch and of Python itself belongs to the environment class.
_NOT_THEIRS = frozenset(("torch", *sys.stdlib_module_names)) - {"__main__"}
_EVERY_MODULE_HAS = frozenset(vars(nn.Module()))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def network_digest(model: nn.Module) -> str:
    """The sha256 (hex) of the names, shapes, dtypes and bytes of all parameters and buffers.

    The order is that of `state_dict`; buffers that are not stored there count too.
    """
    return ordered_tensors_digest(_tensors(model))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in model.named_modules(remove_duplicate=False):
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is not None:
                    yield f"{prefix}.{name}" if prefix else name, tensor


def forward_digest(model: nn.Module) -> str:
    """The sha256 (hex) of what the network computes besides its weights.

    That is the source text of every file that defines a class of a submodule outside torch (bases included), and the
    tree of modules: class, settings, which parameters are trained and which are shared; of a class that was made in a
    function also what its methods enclose. Code that those files call in other files is not followed.
    """
    texts: set[str] = set()
    tree: list[str] = []
    first_name: dict[int, str] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        own_code = [base for base in type(module).__mro__ if base.__module__.split(".")[0] not in _NOT_THEIRS]
        texts.update(source(base) for base in own_code)
        tree += [f"{prefix!r} {base.__qualname__} {told}" for base in own_code if (told := enclosed(base))]
        # torch's private attributes change from version to version, and say nothing that the public ones do not.
        settings = {
            key: value
            for key, value in sorted(vars(module).items())
            if key not in _EVERY_MODULE_HAS and (own_code or not key.startswith("_"))
        }
        parameters = {
            name: (first_name.setdefault(id(parameter), f"{prefix}.{name}"), parameter.requires_grad)
            for name, parameter in module._parameters.items()
            if parameter is not None
        }
        tree.append(f"{prefix!r} {type(module).__qualname__} {described(settings)} {parameters}")
    sha = hashlib.sha256()
    for text in [*sorted(texts), "\0", *tree]:
        sha.update(f"{len(text)}\n{text}\n".encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all linear and convolutional layers, in the order of the modules.

    Returns:
        Parameter name (as in `named_parameters`) to parameter. A tied parameter is there once, under its first name.
    """
    weights: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, PRUNABLE) else None
        if weight is not None and id(weight) not in seen:
            seen.add(id(weight))
            weights[f"{prefix}.weight" if prefix else "weight"] = weight
    return weights


def parametrized_weights(model: nn.Module) -> list[str]:
    """Linear and convolutional layers whose weight is computed from other parameters (weight_norm and the like)."""
    return [
        f"{prefix}.weight" if prefix else "weight"
        for prefix, module in model.named_modules()
        if isinstance(module, PRUNABLE) and not isinstance(module._parameters.get("weight"), nn.Parameter)
    ]


def running_order(model: nn.Module, example: Tensor) -> list[str]:
    """The prunable weights in the order in which their layers first run in a forward pass.

    Args:
        model: left as it was: mode, weights and hooks.
        example: a batch of inputs [N, ...].

    Returns:
        Names as in `prunable_weights`; layers that do not run are left out.
    """
    return list(dict.fromkeys(_runs(model, example)))


def output_layer(model: nn.Module, example: Tensor) -> str | None:
    """The prunable weight whose layer runs last in a forward pass.

    Args:
        model: left as it was: mode, weights and hooks.
        example: a batch of inputs [N, ...].

    Returns:
        Its name as in `prunable_weights`; None where no such layer runs.
    """
    runs = _runs(model, example)
    return runs[-1] if runs else None


def _runs(model: nn.Module, example: Tensor) -> list[str]:
    """The weight of every run of a prunable layer in a forward pass."""
    names = {id(weight): name for name, weight in prunable_weights(model).items()}
    found: list[str] = []

    def note(module: nn.Module, _inputs: object, _output: object) -> None:
        found.append(names[id(module._parameters["weight"])])

    layers = [m for m in model.modules() if isinstance(m, PRUNABLE) and id(m._parameters.get("weight")) in names]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        with evaluating(model):
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return found
