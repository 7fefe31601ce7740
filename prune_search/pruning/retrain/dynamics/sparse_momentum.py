"""SNFS: regrows dropped weights where the smoothed gradient is largest, and in the layers with most of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prune_search.pruning.retrain.events import Events, drop_options, unfit
from prune_search.recipe.axes import CRITERIA, DYNAMICS
from prune_search.recipe.facts import DynamicsFacts
from prune_search.recipe.fields import Number
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.pruning.retrain.drop_and_grow import Rewiring
    from prune_search.training.loop import Hook
else:
    from prune_search.lazy import torch


@DYNAMICS.register(
    "snfs",
    summary=(
        "at regular intervals, drops the smallest weights and grows others by momentum, in the layers with most of it"
    ),
    source="Dettmers & Zettlemoyer 2019, Sparse Networks from Scratch, 1907.04840, algorithm 1",
    options={
        **drop_options(drop=0.5, anneal="cosine", to=0.005, every="1ep", until="end"),
        "momentum": Option(Number(0.0, 1.0, below=True), 0.9, "decay of the smoothed gradient, per step"),
    },
    # The momentum of removed weights says where to grow.
    facts=DynamicsFacts(
        granularities=("weight",), misplaced=unfit, full_gradients=lambda total, epoch, **options: total
    ),
)
def snfs(moving: DynamicsContext, **options: Any) -> Hook:
    """Events between two updates, at from + n·every, never before the first update. The total stays exactly.

    Of n kept weights of a layer ⌈ζ·n⌉ are dropped. What all layers dropped is shared out by the mean magnitude of the
    smoothed gradient over the layer's kept weights, in whole numbers by largest remainder, no layer above its free
    places. In each layer the largest smoothed gradients grow. That gradient, m = α m + (1 - α) g with g also at masked
    places, is the dynamics' own, whatever the optimizer; of weights that an event leaves masked it starts again at 0.
    """
    from prune_search.pruning.retrain.drop_and_grow import Rewiring
    from prune_search.training.loop import Hook

    events = Events.of(options, moving.total, moving.epoch)
    rewiring = Rewiring(moving, Named.of(CRITERIA, options["criterion"]), options["init"])
    decay = float(options["momentum"])
    smoothed: dict[str, Tensor] = {}

    def after_backward(step: int) -> None:
        if step >= events.end:
            return
        for name in rewiring.layers:
            weight = rewiring.keeper.parameters[name]
            found = smoothed.setdefault(name, torch.zeros_like(weight, requires_grad=False))
            found.mul_(decay)
            if weight.grad is not None:
                found.add_(weight.grad.detach(), alpha=1 - decay)

    def before_step(step: int) -> None:
        if step > 0 and events.due(step) and smoothed:
            _event(rewiring, events, smoothed, step)

    def load(state: Mapping[str, Tensor]) -> None:
        parameters = rewiring.keeper.parameters
        smoothed.clear()
        for name, value in state.items():
            smoothed[name] = torch.empty_like(parameters[name], requires_grad=False).copy_(value)

    return Hook("snfs", before_step=before_step, after_backward=after_backward, state=lambda: smoothed, load=load)


def _event(rewiring: Rewiring, events: Events, smoothed: Mapping[str, Tensor], step: int) -> None:
    from prune_search.pruning.retrain.drop_and_grow import highest

    kept = {name: rewiring.kept(name) for name in rewiring.layers}
    momentum = {name: rewiring.flat(smoothed[name]).abs().double() for name in rewiring.layers}
    dropped = [events.dropped(int(mask.sum()), step, up=True) for mask in kept.values()]
    if not any(dropped):
        return
    means = [float(momentum[name][mask].mean()) if bool(mask.any()) else 0.0 for name, mask in kept.items()]
    scores = rewiring.scores(step)
    left = {
        name: highest(name, scores[name], mask, int(mask.sum()) - count)
        for (name, mask), count in zip(kept.items(), dropped, strict=True)
    }
    regrown = shared_out(dropped, means, [int((~mask).sum()) for mask in left.values()])
    grown = {
        name: highest(name, momentum[name], ~mask, count)
        for (name, mask), count in zip(left.items(), regrown, strict=True)
    }
    rewiring.swap(left, grown, step)
    with torch.no_grad():
        for name, value in smoothed.items():
            value.mul_(rewiring.keeper.masks[name].to(value.device))


def shared_out(dropped: list[int], means: list[float], free: list[int]) -> list[int]:
    """What each layer grows of all that was dropped.

    Args:
        dropped: by each layer.
        means: of each layer, the mean magnitude of the smoothed gradient; where all are 0 a layer grows what it lost.
        free: places of each layer.

    Example:
        >>> shared_out([4, 4], [3.0, 1.0], [5, 9])
        [5, 3]
    """
    from prune_search.pruning.mask.counts import allocate

    total, whole = sum(dropped), sum(means)
    wanted = [total * mean / whole for mean in means] if whole > 0 else [float(count) for count in dropped]
    return allocate(total, wanted, free)
