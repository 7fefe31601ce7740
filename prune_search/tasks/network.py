"""Digests of a network's weights and code, and which of its weights make its outputs."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from prune_search.tasks.dataflow import Flow, flow
from prune_search.tasks.digest import ordered_tensors_digest
from prune_search.tasks.layers import PRUNABLE as PRUNABLE
from prune_search.tasks.layers import parametrized_weights as parametrized_weights
from prune_search.tasks.layers import prunable_weights as prunable_weights
from prune_search.tasks.shards import gathered
from prune_search.tasks.sources import described, enclosed, source

# The code of torch and of Python itself belongs to the environment class.
_NOT_THEIRS = frozenset(("torch", *sys.stdlib_module_names)) - {"__main__"}
_EVERY_MODULE_HAS = frozenset(vars(nn.Module()))


def network_digest(model: nn.Module) -> str:
    """The sha256 (hex) of the names, shapes, dtypes and bytes of all parameters and buffers.

    The order is that of `state_dict`; buffers that are not stored there count too. Of a network that is sharded over
    workers, all of them call this, and gather one tensor at a time.
    """
    return ordered_tensors_digest((name, gathered(tensor)) for name, tensor in _tensors(model))


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


def running_order(model: nn.Module, example: Any) -> list[str]:
    """The prunable weights in the order in which they are first used in a forward pass.

    Args:
        model: left as it was: mode, weights and hooks.
        example: a batch of inputs [N, ...].

    Returns:
        Names as in `prunable_weights`; weights that are not used are left out.
    """
    return list(flow(model, example).order)


def output_layer(model: nn.Module, example: Any) -> str | None:
    """The prunable weight that is used last in a forward pass; None where none is.

    Args:
        model: left as it was: mode, weights and hooks.
        example: a batch of inputs [N, ...].
    """
    found = flow(model, example)
    return found.last


def output_layers(model: nn.Module, example: Any) -> frozenset[str]:
    """The prunable weights that make the outputs of a network: no other is between their products and an output.

    Args:
        model: left as it was: mode, weights and hooks.
        example: a batch of inputs [N, ...].
    """
    return made_outputs(flow(model, example))


def made_outputs(found: Flow) -> frozenset[str]:
    """The prunable weights that make the outputs in a forward pass."""
    if found.outputs or found.closed or found.last is None:
        return found.outputs
    # Outputs that torch cannot follow (made of Python numbers, say): the last one makes them.
    return frozenset((found.last,))
