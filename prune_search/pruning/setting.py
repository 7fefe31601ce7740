"""What a transform or dynamics is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

    from prune_search.pruning.finding import Evidence, MaskRule
    from prune_search.pruning.keeper import MaskKeeper
    from prune_search.pruning.masks import MaskSet, UnitMasks
    from prune_search.pruning.units import UnitSet
    from prune_search.recipe.recipe import Named
    from prune_search.training.loop import Feed, Hook, Network


@dataclass(frozen=True)
class Setting:
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


@dataclass(frozen=True)
class Phase:
    """How a transform, or a criterion that learns, trains.

    Attributes:
        total: steps, at most.
        optimizer: the registered optimizer.
        rate: learning rate by step of the phase.
        hooks: what it does on the way.
        learned: what is trained in place of the network's parameters, by name; empty: those.
    """

    total: int
    optimizer: Named
    rate: Callable[[int], float]
    hooks: Callable[[], Sequence[Hook]]
    learned: Mapping[str, nn.Parameter] = field(default_factory=dict)


@dataclass(frozen=True)
class Learning:
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
    """

    network: Network
    sets: Sequence[UnitSet]
    candidates: UnitMasks
    select: Callable[[Mapping[str, Tensor]], UnitMasks]
    share: Decimal | None
    seed: int
    words: tuple[str | int, ...]
    epoch: int


@dataclass(frozen=True)
class Moving:
    """What a dynamics is given.

    Attributes:
        network: being retrained.
        keeper: holds the mask; a dynamics moves it with `MaskKeeper.set`.
        optimizer: the retraining's.
        rule: the mask block.
        share: kept share at the end.
        total: steps of the retraining.
        epoch: iterations in an epoch.
        evidence: the scoring data at a step.
    """

    network: Network
    keeper: MaskKeeper
    optimizer: optim.Optimizer
    rule: MaskRule
    share: Decimal
    total: int
    epoch: int
    evidence: Callable[[int], Evidence]
