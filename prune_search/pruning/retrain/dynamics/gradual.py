"""Gradual pruning: tightens the mask along a path during training."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from prune_search.pruning.retrain.events import misplaced
from prune_search.recipe.axes import CRITERIA, DYNAMICS, PATHS
from prune_search.recipe.facts import DynamicsFacts
from prune_search.recipe.fields import ClockStep, Length, Value, scores_weights
from prune_search.recipe.recipe import Named
from prune_search.recipe.registry import Option
from prune_search.recipe.step import Step

if TYPE_CHECKING:
    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.training.loop import Hook


def share_at(path: str, keep: Decimal, step: int, begin: int, end: int) -> Decimal:
    """Kept share at a step of a path from 1 at `begin` to `keep` at `end` (Zhu & Gupta 2017, 1710.01878, eq. 1).

    Args:
        path: a registered sparsity path.
        keep: kept share at the end, 0 to 1.
        step: any step; before `begin` everything is kept, from `end` on `keep` is.
        begin: where the path begins.
        end: where it ends.

    Example:
        >>> share_at("cubic", Decimal("0.1"), 50, 0, 100)
        Decimal('0.2125')
    """
    if step >= end:
        return keep
    if step <= begin:
        return Decimal(1)
    with localcontext() as context:
        context.prec = 50
        t = Decimal(step - begin) / Decimal(end - begin)
        share: Decimal = PATHS[path].make(keep, t)
        return share


def _settles(total: int, epoch: int, **options: str) -> int:
    # The last event comes before the update of its step, so the state after that update is the first of its sparsity.
    return min(Step.parse(options["until"]).resolve(total, epoch) + 1, total)


def _mean_kept(share: float, total: int, epoch: int, **options: Any) -> float:
    begin, end = (Step.parse(options[key]).resolve(total, epoch) for key in ("from", "until"))
    every, path = max(1, Step.parse(options["every"]).resolve(total, epoch)), Named.of(PATHS, options["path"]).name
    events = [step for step in [*range(begin, end, every), end] if step < total]
    kept = [1.0, *(float(share_at(path, Decimal(share), event, begin, end)) for event in events)]
    lengths = [after - before for before, after in itertools.pairwise([0, *events, total])]
    return math.fsum(one * length for one, length in zip(kept, lengths, strict=True)) / max(1, total)


@DYNAMICS.register(
    "gradual",
    summary="tightens the mask at regular intervals along a path to the requested sparsity",
    source="Zhu & Gupta 2017, To Prune or Not to Prune, 1710.01878, eq. 1",
    options={
        "criterion": Option(Value(CRITERIA, scores_weights), "magnitude", "criterion scored at every event"),
        "path": Option(Value(PATHS), "cubic", "path along which the kept share falls"),
        "from": Option(ClockStep(), "5%", "first event, counted from the start of the retraining"),
        "until": Option(ClockStep(), "75%", "last event, which reaches the requested sparsity"),
        "every": Option(Length(positive=True), "100it", "between two events"),
    },
    facts=DynamicsFacts(starts_from="all", settles=_settles, mean_kept=_mean_kept, misplaced=misplaced, sharded=True),
)
def gradual(moving: DynamicsContext, **options: str) -> Hook:
    """Events at from, from + every, … and always at until. What is removed stays removed."""
    from prune_search.pruning.mask.finder import find_mask
    from prune_search.pruning.mask.rule import MaskRule
    from prune_search.training.loop import Hook

    begin, end = (Step.parse(options[key]).resolve(moving.total, moving.epoch) for key in ("from", "until"))
    every = max(1, Step.parse(options["every"]).resolve(moving.total, moving.epoch))
    criterion = Named.of(CRITERIA, options["criterion"])
    given = moving.rule
    rule = MaskRule(criterion, given.scope, given.granularity, given.score, ties=given.ties)
    path = Named.of(PATHS, options["path"]).name

    def last_event(step: int) -> int:
        """The event at or before a step, or -1 before the first."""
        if step >= end:
            return end
        return begin + (step - begin) // every * every if step >= begin else -1

    def prune(step: int) -> None:
        event = last_event(step - 1)
        before = share_at(path, moving.share, event, begin, end) if event >= 0 else Decimal(1)
        share = share_at(path, moving.share, step, begin, end)
        found = find_mask(moving.network.model, rule, share, (moving.keeper.masks, before), moving.scoring_data(step))
        moving.keeper.set(found)

    def before_step(step: int) -> None:
        if last_event(step) == step:
            prune(step)

    def at_end() -> None:
        if last_event(moving.total) == end and end < moving.total:
            return
        # The path ends with the retraining (or past it): the asked sparsity is reached in the final state.
        prune(max(end, moving.total))

    return Hook("gradual", before_step=before_step, at_end=at_end)
