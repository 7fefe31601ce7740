"""Batches as a data loader yields them (mappings, tuples of several inputs), for functions that look at a network.

They are taken apart by the rules of a `Task`: of a mapping the network gets the keys that its forward names, of a tuple
or list all parts but the last, which is the target.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from torch import Tensor, nn

from prune_search.library.calls import batches_of
from prune_search.tasks.batches import Inputs, Rules, adapted, target_of

P = ParamSpec("P")
Returned = TypeVar("Returned")


def takes_task_batches(function: Callable[P, Returned]) -> Callable[P, Returned]:
    """A function of a network and batches that takes them as a loader makes them, too.

    The network is called as the rules say while the function runs, and is as it was afterwards.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def taking(*args: P.args, **kwargs: P.kwargs) -> Returned:
        bound = signature.bind(*args, **kwargs)
        batches, model = bound.arguments.get("batches"), bound.arguments.get("model")
        if batches is None or not isinstance(model, nn.Module):
            return function(*args, **kwargs)
        if callable(batches):
            made: Any = functools.partial(_made_pairs, batches)
        else:
            made = [pair(batch) for batch in batches_of(batches)]
        bound.arguments["batches"] = made
        if not callable(batches) and not any(isinstance(inputs, Inputs) for inputs, _ in made):
            return function(*bound.args, **bound.kwargs)
        with taking_inputs(model):
            return function(*bound.args, **bound.kwargs)

    return taking


def _made_pairs(batches: Callable[[int], Any], iteration: int) -> list[tuple[Any, Any]]:
    return [pair(batch) for batch in batches_of(batches(iteration))]


def pair(batch: Any) -> tuple[Any, Any]:
    """Inputs and target of a batch; a pair stays one, whatever its inputs are."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, Mapping | tuple | list):
        return Rules().inputs(batch), target_of(batch)
    return (batch, None) if isinstance(batch, Tensor) else (Inputs((batch,)), None)


@contextmanager
def taking_inputs(model: nn.Module) -> Iterator[None]:
    """Within, a network takes `Inputs`."""
    before = type(model)
    adapted(model)
    try:
        yield
    finally:
        model.__class__ = before
