"""The input of a criterion that learns its mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from prune_search.pruning.mask.mask_set import UnitMasks
    from prune_search.pruning.mask.units import UnitSet
    from prune_search.training.loop import Network


@dataclass(frozen=True)
class LearningContext:
    """What a criterion that learns its mask is given.

    Attributes:
        network: at w(k1); its parameters stay what they are.
        sets: the units that have a score.
        candidates: per set, bool [units]: those that may be kept.
        select: from the units' scores to those that are kept at the asked share, ties by order.
        share: asked kept share of the units in scope; None where it is learned too.
        seed: of the trial.
        words: the place and the round: what tells its draws from others.
        epoch: iterations in an epoch.
        shards: of a network that is sharded over workers, the weights by the sets' names: each worker has the scores of
            the rows that it holds, and `candidates` and `select` are of these. None: each has all.
    """

    network: Network
    sets: Sequence[UnitSet]
    candidates: UnitMasks
    select: Callable[[Mapping[str, Tensor]], UnitMasks]
    share: Decimal | None
    seed: int
    words: tuple[str | int, ...]
    epoch: int
    shards: Mapping[str, Tensor] | None = None
