"""What a batch means: which parts the network gets, which one is the target, and which output is the score.

Everything else in the package sees pairs (inputs, labels) and calls ``model(inputs)``. A network of several inputs, of
a mapping, or with a forward of the user's is made to take them so by `adapted`, which leaves weights and names alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from prune_search.tasks.structures import tensors_in

TARGETS = ("labels", "label", "target", "targets")
Forward = Callable[[nn.Module, Any], Any]


@dataclass(eq=False)
class Inputs:
    """What a network gets of a batch, where that is not one tensor.

    Attributes:
        content: keyword inputs as a mapping, positional ones as a tuple, or the whole batch for a user's forward.
    """

    content: Any


@dataclass(frozen=True)
class Rules:
    """How a task's batches are taken apart.

    Attributes:
        forward: f(model, batch) to outputs, in place of the rules; None: the rules.
    """

    forward: Forward | None = None

    def inputs(self, batch: Any) -> Any:
        """What ``model(…)`` is called with: a tensor, or `Inputs`."""
        if self.forward is not None or isinstance(batch, Mapping):
            return Inputs(batch)
        if isinstance(batch, tuple | list):
            parts = tuple(batch) if len(batch) == 1 else tuple(batch[:-1])
            return parts[0] if len(parts) == 1 and isinstance(parts[0], Tensor) else Inputs(parts)
        return batch if isinstance(batch, Tensor) else Inputs((batch,))

    def adapted(self, model: nn.Module) -> nn.Module:
        """The same network, which takes `Inputs` too."""
        return adapted(model, self.forward)


def target_of(batch: Any) -> Any:
    """The target: the last part of a tuple or list, of a mapping ``labels``, ``label``, ``target`` or ``targets``.

    Returns:
        None where the batch has none.
    """
    if isinstance(batch, Mapping):
        return next((batch[key] for key in TARGETS if key in batch), None)
    return batch[-1] if isinstance(batch, tuple | list) and len(batch) > 1 else None


def adapted(model: nn.Module, forward: Forward | None = None) -> nn.Module:
    """A network that takes `Inputs` in place of what they hold; called otherwise, it does what it did.

    Its class becomes one that is derived from its own, under the same name: weights, buffers, hooks and the names of
    modules stay. A copy of the network is adapted too.

    Args:
        model: changed in place.
        forward: f(model, batch) to outputs; None: keywords of a mapping, positions of a tuple.
    """
    own = type(model)
    if getattr(own, "_takes_inputs", False):
        return model
    names = _keywords(model)

    def run(self: nn.Module, *given: Any, **named: Any) -> Any:
        if len(given) == 1 and not named and isinstance(given[0], Inputs):
            content = given[0].content
            if forward is not None:
                return forward(self, content)
            if isinstance(content, Mapping):
                return own.forward(self, **{key: content[key] for key in content if names is None or key in names})
            return own.forward(self, *content)
        return own.forward(self, *given, **named)

    said = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
    marks = {"_takes_inputs": True, "_input_names": names, "_own_forward": forward is not None}
    model.__class__ = type(own.__name__, (own,), {**said, **marks, "forward": run})
    return model


def named_tensors(model: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """The tensors that a network is called with, by name: ``x`` where it is one; ``x0``, ``x1`` … by their places.

    Args:
        model: whose forward says which of a mapping it takes; targets are left out.
        inputs: as `Rules.inputs` gives them.

    Raises:
        ValueError: a forward of the user's takes the batch apart, or tensors lie deeper within the batch.
    """
    if isinstance(inputs, Tensor):
        return {"x": inputs}
    if getattr(type(model), "_own_forward", False):
        raise ValueError("a forward function of your own reads the batch")
    names = getattr(type(model), "_input_names", None)
    taken = {
        name: part
        for name, part in _by_name(inputs.content).items()
        if name not in TARGETS and (names is None or not isinstance(inputs.content, Mapping) or name in names)
    }
    deeper = [name for name, part in taken.items() if not isinstance(part, Tensor) and tensors_in(part)]
    if deeper:
        raise ValueError(f"the input {deeper[0]} is not a tensor but contains some")
    return {name: part for name, part in taken.items() if isinstance(part, Tensor)}


def with_tensors(inputs: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The same inputs with other tensors by the names of `named_tensors`; targets are left out, all else stays."""
    if isinstance(inputs, Tensor):
        return tensors["x"]
    parts = {**_by_name(inputs.content), **tensors}
    if not isinstance(inputs.content, Mapping):
        return Inputs(tuple(parts.values()))
    return Inputs({name: part for name, part in parts.items() if name not in TARGETS})


def _by_name(content: Any) -> dict[str, Any]:
    return dict(content) if isinstance(content, Mapping) else {f"x{place}": part for place, part in enumerate(content)}


def _keywords(model: nn.Module) -> frozenset[str] | None:
    """The keywords that a network's forward names; None where it takes any and names none."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return named or None
