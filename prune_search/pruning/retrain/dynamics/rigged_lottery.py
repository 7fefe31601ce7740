"""RigL: drops the smallest weights at intervals and grows as many where the gradient is largest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prune_search.pruning.retrain.events import Events, drop_options, events_in, unfit
from prune_search.recipe.axes import CRITERIA, DYNAMICS
from prune_search.recipe.facts import DynamicsFacts
from prune_search.recipe.fields import Word
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.pruning.retrain.drop_and_grow import Rewiring
    from prune_search.training.loop import Hook

# From (layers, step, layer) to the scores of what grows.
GROWTH: dict[str, Callable[[Rewiring, int, str], Tensor]] = {
    "gradient": lambda rewiring, step, name: rewiring.gradient(name),
    "random": lambda rewiring, step, name: rewiring.uniform("growth", step, name),
}


@DYNAMICS.register(
    "rigl",
    summary="at regular intervals, drops the smallest weights of each layer and grows as many by gradient",
    source="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners, 1911.11134, algorithm 1",
    options={
        **drop_options(drop=0.3, anneal="cosine", to=0.0, every="100it", until="75%"),
        "growth": Option(Word(tuple(GROWTH)), "gradient", "what grows: the largest |gradient|, or random places"),
    },
    facts=DynamicsFacts(granularities=("weight",), misplaced=unfit, full_gradients=events_in, sharded=True),
)
def rigl(moving: DynamicsContext, **options: Any) -> Hook:
    """Events at from, from + every, … before until. Each layer keeps its count.

    As in the released code: of n kept weights ⌊ζ·n⌋ are dropped; those that grow have the largest gradient of this
    step's batch at the masked network, among all places that are free after the drop; they start at `init` with their
    momentum at 0, but one that was dropped just now goes on as it was; and an event takes the place of the step's
    update: no parameter is updated. Unlike there no noise is added to the magnitudes (ties go by index), and an event
    at which every layer's ⌊ζ·n⌋ is 0 is none.
    """
    from prune_search.pruning.retrain.drop_and_grow import Rewiring, layer_by_layer
    from prune_search.training.loop import Hook

    events = Events.of(options, moving.total, moving.epoch)
    rewiring = Rewiring(moving, Named.of(CRITERIA, options["criterion"]), options["init"])
    growth = GROWTH[options["growth"]]

    def after_backward(step: int) -> None:
        if not events.due(step):
            return
        moved = layer_by_layer(
            rewiring,
            step,
            lambda kept: events.dropped(kept, step),
            lambda name: growth(rewiring, step, name),
        )
        if moved:
            for group in moving.optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    return Hook("rigl", after_backward=after_backward)
