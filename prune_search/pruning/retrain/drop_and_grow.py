"""Moves a mask of constant size: drops weights and grows as many.

Ties: of equal scores the weight that comes first, in row-major order, is kept, and of those that could grow the first
one grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prune_search.pruning.mask.finder import units_in
from prune_search.pruning.mask.mask_set import Pool, select
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.mask.sharded_finder import scores_of_shards, workers_of
from prune_search.pruning.mask.sharded_selection import Shard, select_sharded
from prune_search.pruning.mask.variants import scores_now
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.shards import divided_like, first_row, is_shard, part_of, sharded_like
from prune_search.tasks.workers import ALONE, Workers
from prune_search.training.randomness import generator

if TYPE_CHECKING:
    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.recipe.recipe import Named

# From (the layer's kept weights, a standard normal and a uniform draw in [0, 1), both [n]) to the values of weights
# that grow; as in the code of RigL, with its spread taken over the kept weights.
GROWN: dict[str, Callable[[Tensor, Callable[[], Tensor], Callable[[], Tensor]], Tensor | None]] = {
    "zeros": lambda kept, normal, uniform: None,
    "normal": lambda kept, normal, uniform: normal() * kept.std(correction=0),
    "uniform": lambda kept, normal, uniform: (2 * uniform() - 1) * kept.abs().mean(),
}


def highest(name: str, scores: Tensor, among: Tensor, count: int) -> Tensor:
    """The `count` highest scores of one layer among those allowed, ties by index; bool [n].

    Raises:
        ScoreError: a score among them is not a number.
    """
    return select({name: scores}, {name: among}, [Pool((name,), count)])[name]


def _shaped(kept: Tensor, mask: Tensor) -> Tensor:
    """Places [n] as a mask that lies where another one does."""
    if not is_shard(mask):
        return kept.reshape(mask.shape)
    return sharded_like(kept.reshape(part_of(mask).shape), mask)


class Rewiring:
    """The layers whose mask a dynamics moves. Masks and scores are flat here, on the CPU, in row-major order.

    Of a network that is sharded over workers they are those of this worker's rows, on the device where these lie, and
    [n] counts them; all workers call the same.

    Args:
        moving: what the dynamics was given.
        criterion: whose lowest scores are dropped; None for a dynamics that drops by other means.
        init: what weights that grow start with.
    """

    def __init__(self, moving: DynamicsContext, criterion: Named | None = None, init: str = "zeros") -> None:
        self.moving = moving
        self.keeper = moving.keeper
        self.init = init
        given = moving.rule
        self.rule = MaskRule(criterion or given.criterion, given.scope, given.granularity, given.score)
        if GROWN[init] is not GROWN["zeros"] and self.sharded:
            text = f"{init} needs the spread of whole layers, and this network is sharded: zeros goes with it"
            raise UserError([Problem("init", text)])

    @cached_property
    def seed(self) -> int:
        """Of the trial."""
        return self.moving.scoring_data(0).seed

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The weights that take part, in module order."""
        return tuple(one.name for one in units_in(self.moving.network.model, self.rule, self.moving.scoring_data(0)))

    @cached_property
    def sharded(self) -> bool:
        """Whether weights are divided among workers, be it one."""
        return any(map(is_shard, self.keeper.parameters.values()))

    @cached_property
    def workers(self) -> Workers:
        """Those that hold the rows of sharded weights; this one alone where weights are whole."""
        return workers_of({name: self.keeper.parameters[name] for name in self.layers}) if self.sharded else ALONE

    def kept(self, name: str) -> Tensor:
        """The layer's mask, bool [n]."""
        return self.flat(self.keeper.masks[name])

    def counts(self, masks: Sequence[Tensor]) -> list[int]:
        """How many places masks [n] keep, those of other workers among them."""
        if not self.workers.several:
            return [int(mask.sum()) for mask in masks]
        found = torch.stack([mask.sum() for mask in masks])
        self.workers.total([found])
        return [int(count) for count in found]

    def highest(
        self, scores: Mapping[str, Tensor], among: Mapping[str, Tensor], counts: Mapping[str, int]
    ) -> dict[str, Tensor]:
        """Of every layer so many of the highest scores [n] among those allowed, ties by index; bool [n].

        Raises:
            ScoreError: a score among them is not a number.
        """
        if not self.workers.several:
            return {name: highest(name, scores[name], among[name], count) for name, count in counts.items()}
        shards = {name: self._shard(name, scores[name]) for name in counts}
        pools = [Pool((name,), count) for name, count in counts.items()]
        return select_sharded(shards, {name: among[name] for name in counts}, pools, self.workers)

    def _shard(self, name: str, scores: Tensor) -> Shard:
        weight = self.keeper.parameters[name]
        first = first_row(weight, self.workers.rank, self.workers.size)
        return Shard(scores, first * (weight.numel() // weight.shape[0]), weight.numel())

    def weight(self, name: str) -> Tensor:
        """The layer's weight, shaped as it is."""
        return self.keeper.parameters[name].detach()

    def flat(self, tensor: Tensor) -> Tensor:
        """A tensor shaped like a weight, [n]."""
        return part_of(tensor).reshape(-1) if is_shard(tensor) else tensor.detach().reshape(-1).cpu()

    def gradient(self, name: str) -> Tensor:
        """The magnitude of the layer's gradient, also of masked weights; 0 where it took no part. [n]."""
        found = self.keeper.parameters[name].grad
        return torch.zeros_like(self.flat(self.weight(name))) if found is None else self.flat(found).abs()

    def uniform(self, word: str, step: int, name: str) -> Tensor:
        """A draw from [0, 1) of every place, a function of (seed, word, step, layer) alone. Float64 [n]."""
        draw = generator(self.seed, "dynamics", word, step, name)
        return self._own(name, torch.rand(self.weight(name).numel(), generator=draw, dtype=torch.float64))

    def _own(self, name: str, drawn: Tensor) -> Tensor:
        """Of a draw for every place of a layer [all], those of this worker's [n]."""
        weight = self.keeper.parameters[name]
        return part_of(divided_like(drawn.reshape(weight.shape), weight)).reshape(-1) if is_shard(weight) else drawn

    def normal(self, word: str, step: int, name: str) -> Tensor:
        """A standard normal draw of every place, like `uniform`. Float32 [n]."""
        draw = generator(self.seed, "dynamics", word, step, name)
        return self._own(name, torch.randn(self.weight(name).numel(), generator=draw))

    def scores(self, step: int) -> Mapping[str, Tensor]:
        """The criterion's scores of all places, [n] per layer."""
        if self.sharded:
            shards = scores_of_shards(self.moving.network.model, self.rule, self.moving.scoring_data(step))
            return {name: shards[name].values for name in self.layers}
        found = scores_now(self.moving.network.model, self.rule, self.keeper.masks, self.moving.scoring_data(step))
        return {name: self.flat(found[name]) for name in self.layers}

    def set(self, kept: Mapping[str, Tensor]) -> None:
        """Replace the masks of some layers, shaped like their weights [...]; masked weights and buffers become 0."""
        before = self.keeper.masks
        masks = {name: _shaped(kept[name], mask) if name in kept else mask for name, mask in before.items()}
        counts = zip(kept, self.counts(list(kept.values())), strict=True)
        units = {**before.units, **{name: (before[name].numel(), count) for name, count in counts}}
        self.keeper.set(replace(before, masks=masks, units=units))

    def swap(self, left: Mapping[str, Tensor], grown: Mapping[str, Tensor], step: int) -> None:
        """Keep the remaining and the grown weights, bool masks shaped like the weights [...], in the layers both name.

        A weight that was dropped and grows at once goes on as it was, value and momentum. One that was masked before
        had both at 0; it starts from `init`.
        """
        before = {name: self.kept(name) for name in left}
        self.set({name: left[name] | grown[name] for name in left})
        for name in left:
            fresh = grown[name] & ~before[name]
            values = GROWN[self.init](
                self.flat(self.weight(name))[before[name] & (left[name] | grown[name])],
                lambda name=name: self.normal("init", step, name),  # type: ignore[misc]
                lambda name=name: self.uniform("init", step, name),  # type: ignore[misc]
            )
            if values is not None and bool(fresh.any()):
                self._write(name, fresh, values)

    def _write(self, name: str, where: Tensor, values: Tensor) -> None:
        weight = self.keeper.parameters[name]
        with torch.no_grad():
            chosen = where.reshape(weight.shape).to(weight.device)
            weight.copy_(torch.where(chosen, values.reshape(weight.shape).to(weight), weight))

    def groups(self, name: str, signs: str) -> Iterable[Tensor]:
        """The kept weights that compete for being dropped: all of a layer, or those of each sign."""
        return SIGNS[signs](self.kept(name), self.flat(self.weight(name)))


# Whose smallest magnitudes are dropped: of all kept weights, or of the positive (and 0) and the negative ones apart.
SIGNS: dict[str, Callable[[Tensor, Tensor], list[Tensor]]] = {
    "together": lambda kept, weight: [kept],
    "apart": lambda kept, weight: [kept & (weight >= 0), kept & (weight < 0)],
}


def layer_by_layer(
    rewiring: Rewiring,
    step: int,
    dropped: Callable[[int], int],
    growth: Callable[[str], Tensor],
    signs: str = "together",
) -> bool:
    """Drop the lowest scores of every layer and grow as many there, so that each keeps its count.

    Dropped weights can grow again at once, as in the code of RigL.

    Args:
        rewiring: the layers.
        step: the event.
        dropped: from the weights that compete to how many of them are dropped.
        growth: from the layer to the scores of what grows, [n]; the highest grow.
        signs: who competes, see `SIGNS`.

    Returns:
        Whether anything was dropped; if not, nothing was done.

    Raises:
        ScoreError: a score is not a number.
    """
    groups = {name: list(rewiring.groups(name, signs)) for name in rewiring.layers}
    found = iter(rewiring.counts([group for each in groups.values() for group in each]))
    totals = {name: [next(found) for _ in each] for name, each in groups.items()}
    counts = {name: [dropped(total) for total in each] for name, each in totals.items()}
    if not any(map(any, counts.values())):
        return False
    # Before anything is scored: a criterion may take gradients of its own.
    wanted = {name: growth(name) for name in groups}
    scores = rewiring.scores(step)
    left = {name: torch.zeros_like(each[0]) for name, each in groups.items()}
    for place in range(max(map(len, groups.values()))):
        among = {name: each[place] for name, each in groups.items()}
        remaining = {name: totals[name][place] - counts[name][place] for name in groups}
        for name, mask in rewiring.highest(scores, among, remaining).items():
            left[name] |= mask
    free = {name: ~mask for name, mask in left.items()}
    grown = rewiring.highest(wanted, free, {name: sum(each) for name, each in counts.items()})
    rewiring.swap(left, grown, step)
    return True
