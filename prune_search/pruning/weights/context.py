"""The input of a transform or dynamics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prune_search.pruning.mask.mask_set import MaskSet
    from prune_search.pruning.mask.moved_weights import MovedWeights
    from prune_search.pruning.mask.rule import MaskRule
    from prune_search.pruning.mask.scoring import Batches
    from prune_search.recipe.recipe import Named
    from prune_search.training.loop import Feed, Network


def _no_inputs(count: int) -> Any:
    raise ValueError("training inputs were not given")


def _no_calibration() -> Batches:
    raise ValueError("the data of the scores were not given")


@dataclass(frozen=True)
class TransformContext:
    """What a transform is given.

    Attributes:
        network: at w(k2), or at w(k1) for ``mask.prepare``; changed in place.
        masks: the mask of this round; None for ``mask.prepare``.
        rule: the mask block.
        layers: names of the weights that take part in pruning.
        init: train's initializer.
        seed: of the trial.
        words: the place of the transform and the round: what tells its draws from others.
        feed: makes the data stream of this place.
        penalty: the L2 penalty that ``mask.prepare`` left on every weight; 0 elsewhere.
        steps_per_epoch: optimizer steps in an epoch; None: as many as the feed has batches.
        inputs: gives the inputs of that many training examples.
        calibration: the data that the scores of this round were taken on, as (inputs, labels).
        moved: the weights that the criterion moved while it found the mask, by `moved_weights.MOVED`; empty: none.
    """

    network: Network
    masks: MaskSet | None
    rule: MaskRule
    layers: tuple[str, ...]
    init: Named
    seed: int
    words: tuple[str | int, ...]
    feed: Callable[[], Feed]
    penalty: Decimal = Decimal(0)
    steps_per_epoch: int | None = None
    inputs: Callable[[int], Any] = _no_inputs
    calibration: Callable[[], Batches] = _no_calibration
    moved: dict[str, MovedWeights] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.feed().epoch if self.steps_per_epoch is None else self.steps_per_epoch
