"""Checks the arguments of a library call; what is wrong with them is reported in one line."""

from __future__ import annotations

import functools
import math
import numbers
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet, ScoreError
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.tasks.raised import raised

P = ParamSpec("P")
Returned = TypeVar("Returned")
OURS = Path(__file__).parents[1]
# What goes wrong here is what a network returned, or labels that do not go with it.
TAKING = (OURS / "training" / "losses.py", OURS / "tasks" / "outputs.py")
# Of Python, between a function and who calls it.
BETWEEN = ("functools", "contextlib", "inspect")
PAIRS = "[(inputs, labels), …]"


def told_in_one_line(function: Callable[P, Returned]) -> Callable[P, Returned]:
    """A function in which whatever a network, a loss, a plug-in or another library raises becomes one line.

    Only what this package itself raises unforeseen, which is a fault of it, stays what it is.
    """

    @functools.wraps(function)
    def calling(*args: P.args, **kwargs: P.kwargs) -> Returned:
        try:
            return function(*args, **kwargs)
        except (UserError, ScoreError):
            raise
        except Exception as error:
            if not _others(error):
                raise
            raise UserError([Problem("model", f"the network, the loss or a plug-in raised {raised(error)}")]) from error

    return calling


def _others(error: BaseException) -> bool:
    """Whether another's code raised an error, or had its part in it: a network was called, or a loss."""
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return any(file in TAKING or not _between(file) for file in frames)


def callers_level() -> int:
    """The stack level of a warning that shows the code which called this package, seen from the function that warns."""
    frames = traceback.extract_stack()[-2::-1]
    levels = (level for level, frame in enumerate(frames, 1) if not _between(Path(frame.filename)))
    return next(levels, len(frames))


def _between(file: Path) -> bool:
    return OURS in file.parents or file.name.startswith(BETWEEN)


def number(path: str, given: Any, low: float, high: float = math.inf, above: bool = False) -> Any:
    """A number of any type in a range, checked.

    Args:
        path: what it is called.
        given: a number, or a tensor or array of one.
        low: the least; with `above` it must be more.
        high: the most.
        above: see `low`.

    Raises:
        UserError: it is none.
    """
    single = isinstance(given, Tensor) and given.numel() == 1 and not given.dtype.is_complex
    known = isinstance(given, numbers.Number) and not isinstance(given, bool | complex)
    value = float(given) if single or known else math.nan
    if math.isfinite(value) and (value > low if above else value >= low) and value <= high:
        return given
    least = f" above {low:g}" if above else f" from {low:g}"
    span = (", and finite" if low == -math.inf else least) if high == math.inf else f"{least} to {high:g}"
    raise UserError([Problem(path, f"must be a number{span} (got {shown(given)})")])


def whole(path: str, given: Any, low: float = -math.inf) -> int:
    """A whole number of at least `low`, checked."""
    if not isinstance(given, bool) and isinstance(given, numbers.Integral) and int(given) >= low:
        return int(given)
    span = "" if low == -math.inf else f" from {low:g}"
    raise UserError([Problem(path, f"must be a whole number{span} (got {shown(given)})")])


def mask_for(model: nn.Module, mask: Any, path: str = "mask") -> MaskSet:
    """A mask of a network, checked.

    Raises:
        UserError: it is no mask, or that of another network.
    """
    if not isinstance(mask, MaskSet):
        text = f"must be a MaskSet, as find_mask and mask_from_scores return it (got {type(mask).__name__})"
        raise UserError([Problem(path, text)])
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name, one in mask.present.items():
        if shapes.get(name) != tuple(one.shape):
            has = f"has {list(shapes[name])} there" if name in shapes else "has no such parameter"
            text = f"belongs to another network: {name} is {list(one.shape)} in it, and the network {has}"
            raise UserError([Problem(path, text)])
    return mask


def optimizer_of(model: nn.Module, optimizer: Any) -> torch.optim.Optimizer:
    """An optimizer of a network's parameters, checked.

    Raises:
        UserError: it is none, or has none of them.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError([Problem("optimizer", f"must be a torch.optim.Optimizer (got {type(optimizer).__name__})")])
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(one) in own for group in optimizer.param_groups for one in group["params"]):
        raise UserError([Problem("optimizer", "has none of the network's parameters: it belongs to another network")])
    return optimizer


def scores_of(scores: Any) -> dict[str, Tensor]:
    """Scores by name as tensors, checked: arrays and lists of numbers are taken too.

    Raises:
        UserError: they are no mapping, or no numbers that can be compared.
    """
    if not isinstance(scores, Mapping):
        text = f"must be a mapping from the name of a weight or layer to its scores (got {type(scores).__name__})"
        raise UserError([Problem("scores", text)])
    return {str(name): _numbers(f"scores.{name}", given) for name, given in scores.items()}


def _numbers(path: str, given: Any) -> Tensor:
    try:
        found = torch.as_tensor(given).detach()
    except Exception as error:
        raise UserError([Problem(path, f"must be a tensor of numbers (got {shown(given)})")]) from error
    if found.dtype.is_complex:
        raise UserError([Problem(path, "must be real numbers, which have an order (got complex ones)")])
    return found


def batches_of(batches: Any) -> list[Any]:
    """The batches of a list, a loader or any other iterable, checked.

    Raises:
        UserError: they are none.
    """
    pair = isinstance(batches, tuple) and any(isinstance(part, Tensor) for part in batches)
    if pair or isinstance(batches, Tensor | Mapping | str) or not isinstance(batches, Iterable):
        got = "the tensors of one batch" if pair else type(batches).__name__
        raise UserError([Problem("batches", f"must be {PAIRS}, a loader or a function to them (got {got})")])
    return list(batches)
