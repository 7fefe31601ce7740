"""SET: drops the smallest weights at intervals and grows as many at random positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prune_search.pruning.retrain.events import Events, drop_options, unfit
from prune_search.recipe.axes import CRITERIA, DYNAMICS
from prune_search.recipe.facts import DynamicsFacts
from prune_search.recipe.fields import Word
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option

if TYPE_CHECKING:
    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.training.loop import Hook


@DYNAMICS.register(
    "set",
    summary="at regular intervals, drops the smallest weights of each layer and grows as many at random",
    source="Mocanu et al. 2018, Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity, "
    "1707.04780, algorithm 1",
    options={
        **drop_options(drop=0.3, anneal="constant", to=0.0, every="1ep", until="end"),
        "signs": Option(
            Word(("together", "apart")),
            "together",
            "apart: drop this share of the positive and of the negative weights separately",
        ),
    },
    facts=DynamicsFacts(granularities=("weight",), misplaced=unfit, sharded=True),
)
def set_(moving: DynamicsContext, **options: Any) -> Hook:
    """Events between two updates, at from + n·every, never before the first update. Each layer keeps its count.

    The smallest magnitudes go, of all the layer's kept weights as in the experiments of RigL, or, ``signs: apart``, of
    the positive and of the negative ones each, as in algorithm 1. Any place that is free after that can grow.
    """
    from prune_search.pruning.retrain.drop_and_grow import Rewiring, layer_by_layer
    from prune_search.training.loop import Hook

    events = Events.of(options, moving.total, moving.epoch)
    rewiring = Rewiring(moving, Named.of(CRITERIA, options["criterion"]), options["init"])

    def before_step(step: int) -> None:
        if step > 0 and events.due(step):
            layer_by_layer(
                rewiring,
                step,
                lambda kept: events.dropped(kept, step),
                lambda name: rewiring.uniform("growth", step, name),
                options["signs"],
            )

    return Hook("set", before_step=before_step)
