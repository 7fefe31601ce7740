"""The rule by which a mask is found, and the data that its scores may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, cast

import torch
from torch import Tensor

from prune_search.pruning.mask.counts import PRECISION
from prune_search.pruning.mask.moved_weights import MovedWeights
from prune_search.pruning.mask.scoring import Batches
from prune_search.recipe import axes
from prune_search.recipe.blocks import Mask, Score
from prune_search.recipe.recipe import Named
from prune_search.tasks.workers import ALONE, Workers


@dataclass(frozen=True)
class MaskRule:
    """The values of a recipe's mask block that f1 uses.

    Attributes:
        criterion, scope, granularity: registered values.
        score: how scores are taken.
        control: a registered control, or None.
        rounding: of counts, see `counts.keep_count`.
        ties: what becomes of equal scores at the border, see `mask_set.Pool`.
        budget: of the network without what is removed, in place of a kept share (`recipe.budget`); None: there is none.
    """

    criterion: Named
    scope: Named
    granularity: Named
    score: Score
    control: Named | None = None
    rounding: str = "half-up"
    ties: str = "index"
    budget: Mapping[str, Any] | None = None

    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss that is scored, from (outputs, labels) to a scalar: registered, or a caller's own function."""
        named = self.score.loss
        if not isinstance(named, Named):
            return cast(Callable[[Tensor, Tensor], Tensor], named)
        make, options = named.entry(axes.LOSSES).make, dict(named.options)
        return lambda outputs, labels: make(outputs, labels, **options)

    def share_at(self, share: Decimal, before: Decimal, iteration: int) -> Decimal:
        """The kept share after an iteration of scoring.

        Args:
            share: after the last one.
            before: ahead of the first one.
            iteration: from 1.
        """
        if iteration == self.score.iterations:
            return share
        with localcontext() as context:
            context.prec = PRECISION
            path = self.score.path
            relative = share / before if before else Decimal(0)
            t = Decimal(iteration) / Decimal(self.score.iterations)
            at: Decimal = before * path.entry(axes.PATHS).make(relative, t, **path.options)
        return at

    @classmethod
    def of(cls, mask: Mask) -> MaskRule:
        """From a recipe's mask block."""
        plain = mask.criterion, mask.scope, mask.granularity, mask.score, mask.control, mask.rounding, mask.ties
        return cls(*plain, mask.sparsity.budget)


@dataclass(frozen=True)
class ScoringData:
    """What the scores are taken from, besides the weights.

    Attributes:
        batches: the data of scoring iteration t, as (inputs, labels).
        output_layer: the name of the output layer's weight, which some granularities leave out.
        seed: of the trial.
        round_number: r, from 1.
        example: an input of the network, [1, …], whose shape is looked at; None: that of the batches.
        learned: the units' scores by set, where the criterion has learned them.
        found: the kept units by set, where the scope has searched for them in episodes.
        device: where blocks are run one by one; None: where the network is.
        moved: takes the weights that a criterion has moved while it found the mask, by `moved_weights.MOVED`, for the
            transform that would compute them anew; None: nobody asks for them.
        workers: that take the scores together, each from its share of the batches or all from the whole.
    """

    batches: Callable[[int], Batches]
    output_layer: str | None
    seed: int
    round_number: int
    example: Callable[[], Tensor] | None = None
    learned: Mapping[str, Tensor] | None = None
    found: Mapping[str, int] | None = None
    device: torch.device | None = None
    moved: dict[str, MovedWeights] | None = None
    workers: Workers = ALONE

    def shown(self) -> Tensor | None:
        """An input, where there is one."""
        if self.example is not None:
            return self.example()
        found = self.batches(1)
        return found[0][0] if found else None
