"""Tries a task in training mode before anything is trained: a network can behave otherwise there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.forms import batch_form
from prune_search.tasks.passes import eager, same_draws
from prune_search.tasks.raised import raised
from prune_search.tasks.state_of_losses import State, changed, put_back, state_of
from prune_search.tasks.structures import mapped
from prune_search.tasks.task import task_said
from prune_search.tasks.task_data import TaskData

KEY = "task"
TRIED_IN_TRAINING = 2
_log = logging.getLogger("prune_search")


def check_training(data: TaskData, model: nn.Module, batch: int) -> None:
    """Try one forward pass in training mode; buffers and modes are restored afterwards, and nothing is learned.

    Args:
        data: fitted to the network.
        model: that takes the task's batches.
        batch: of the training.

    Raises:
        UserError: the network or the loss fails, or the loss depends on no weight that can be trained.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    whole = mapped(data.train.head(min(batch, TRIED_IN_TRAINING)), lambda tensor: tensor.to(device))
    inputs, labels = data.usage.pair(whole)
    if data.loss is None:
        raise _wrong("no loss is named")
    tried = batch_form(whole)
    own = data.task.loss if callable(data.task.loss) else None
    before: State = {}
    with _training(model), eager(), same_draws(inputs):
        try:
            outputs = model(inputs)
        except Exception as error:
            raise _wrong(f"in training mode the network does not accept a batch of {tried}: {raised(error)}") from error
        # Only now: what the network itself changes is stored with it.
        before = {} if own is None else state_of(own, model)
        try:
            found = data.loss(outputs, labels)
        except Exception as error:
            text = f"in training mode the loss does not accept what the network returns ({type(outputs).__name__})"
            raise _wrong(f"{text}: {raised(error)}") from error
    if not isinstance(found, Tensor) or not found.is_floating_point():
        got = str(found.dtype).removeprefix("torch.") if isinstance(found, Tensor) else type(found).__name__
        raise _wrong(f"in training mode the loss must be a real number that can be trained on (got {got})")
    if not found.requires_grad:
        frozen = not any(parameter.requires_grad for parameter in model.parameters())
        why = "all its parameters are frozen" if frozen else "it is detached, or counts rather than measures"
        raise _wrong(f"the loss has no gradient, so nothing can be trained: {why}")
    _warn_of_parameters(data)
    if own is not None:
        moved = changed(before, state_of(own, model))
        put_back(own, before)
        _check_state(data, moved)


def _warn_of_parameters(data: TaskData) -> None:
    """Say that what a loss would learn is not learned: only the network's own parameters are trained and stored."""
    loss = data.task.loss
    if isinstance(loss, nn.Module) and (count := sum(p.numel() for p in loss.parameters() if p.requires_grad)):
        text = (
            "the loss has %d parameters of its own, which are not trained: to train them, make them part of the network"
        )
        _log.warning(f"%s: {text}", task_said(data.task, data.name), count)


def _check_state(data: TaskData, moved: list[tuple[str, bool]]) -> None:
    """Refuse a loss whose buffers change, and warn of other state that does: neither is stored with a trial.

    Args:
        data: whose loss was called.
        moved: names of what changed, and whether it is a buffer.
    """
    if buffers := [name for name, is_buffer in moved if is_buffer]:
        raise _wrong(
            f"the loss changes its own buffer {buffers[0]} at each call, which is not stored with a trial, so that a "
            "resumed trial would differ from an unbroken one: move it into the network, or put the loss in eval mode"
        )
    if others := [name for name, _ in moved]:
        text = (
            f"the loss changes its own attribute {', '.join(others[:3])} at each call, which is not stored with a "
            "trial: a resumed trial can differ from an unbroken one"
        )
        _log.warning("%s: %s", task_said(data.task, data.name), text)


@contextlib.contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """Training mode, with gradients; modes and buffers are restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    model.train()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                buffer.copy_(before)
                module._buffers[name] = buffer


def _wrong(text: str) -> UserError:
    return UserError([Problem(KEY, text)])
