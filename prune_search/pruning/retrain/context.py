"""The input of a dynamics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import optim

    from prune_search.pruning.mask.rule import MaskRule, ScoringData
    from prune_search.pruning.retrain.mask_keeper import MaskKeeper
    from prune_search.training.loop import Network


@dataclass(frozen=True)
class DynamicsContext:
    """What a dynamics is given.

    Attributes:
        network: being retrained.
        keeper: holds the mask; a dynamics moves it with `MaskKeeper.set`.
        optimizer: the retraining's.
        rule: the mask block.
        share: kept share at the end.
        total: steps of the retraining.
        epoch: iterations in an epoch.
        scoring_data: the scoring data at a step.
    """

    network: Network
    keeper: MaskKeeper
    optimizer: optim.Optimizer
    rule: MaskRule
    share: Decimal
    total: int
    epoch: int
    scoring_data: Callable[[int], ScoringData]
