"""What a state holds besides the network: the optimizer's buffers and the tensors of the hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from prune_search.training.loop import Course, Hook
from prune_search.training.optimizers import load_state_tensors

OPTIMIZER, HOOK = "optimizer/", "hook/"


def load_course(course: Course, names: Mapping[nn.Parameter, str], tensors: Mapping[str, Tensor]) -> None:
    """Give optimizer and hooks what a state holds of them, and tell the hooks that the state is in place.

    Args:
        course: whose optimizer and hooks these are.
        names: of the optimizer's parameters.
        tensors: of the state.
    """
    stored = {key.removeprefix(OPTIMIZER): value for key, value in tensors.items() if key.startswith(OPTIMIZER)}
    if stored:
        load_state_tensors(course.optimizer, names, stored)
    for hook in course.hooks:
        prefix = f"{HOOK}{hook.name}/"
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if hook.load is not None and own:
            hook.load(own)
    for hook in course.hooks:
        if hook.at_start is not None:
            hook.at_start()


def hook_tensors(hooks: Sequence[Hook]) -> dict[str, Tensor]:
    """What hooks remember, as named copies."""
    return {
        f"{HOOK}{hook.name}/{key}": value.detach().clone()
        for hook in hooks
        if hook.state is not None
        for key, value in hook.state().items()
    }
