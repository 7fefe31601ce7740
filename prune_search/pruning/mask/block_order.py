"""f1 in the order of the blocks: each block is pruned on the outputs of the pruned blocks before it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.controls import Chosen
from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.layerwise import (
    InputStatistics,
    Keeping,
    Layerwise,
    as_matrix,
    from_matrix,
    shown,
)
from prune_search.pruning.mask.mask_set import MaskSet, Pool, UnitMasks
from prune_search.pruning.mask.moved_weights import MOVED, MovedWeights, weights_digest
from prune_search.pruning.mask.restoring import layers_seeded
from prune_search.pruning.mask.units import UnitSet, masks_of_units, units_of_masks
from prune_search.recipe import axes
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.blocks import Blocks, Chain, Turn
from prune_search.tasks.layers import holders
from prune_search.training.randomness import derive

if TYPE_CHECKING:
    from prune_search.pruning.mask.finder import Finder
    from prune_search.pruning.mask.rule import MaskRule, ScoringData

BLOCKS = "blocks"
# What becomes of a block's weights once its outputs are known: told each weight's name, the parameter and the values
# that it had before.
Afterwards = Callable[[str, nn.Parameter, Tensor], None]


def goes_by_blocks(rule: MaskRule) -> bool:
    """Whether a rule's layers are decided block by block."""
    return rule.scope.options.get("order") == BLOCKS


def layerwise_of(rule: MaskRule) -> Layerwise | None:
    """How the rule's criterion prunes a layer block by block; None: its scores are the same in any order."""
    made = rule.criterion.entry(axes.CRITERIA).facts.layerwise
    return cast(Layerwise, made(**rule.criterion.options)) if made is not None else None


def inputs_of(batches: Sequence[tuple[Any, Any]], name: str) -> list[Any]:
    """The inputs of batches; a UserError where there are none."""
    if not batches:
        raise UserError([Problem("batches", f"are required by {name}: [(inputs, labels), …]")])
    return [inputs for inputs, _ in batches]


def put_back(name: str, weight: nn.Parameter, before: Tensor) -> None:
    """A weight gets its old values again."""
    weight.copy_(before)


@dataclass(frozen=True)
class BlockOrder:
    """A search for a mask, block after block.

    Attributes:
        model: the network.
        blocks: its blocks.
        layerwise: how a layer is pruned.
        keepings: how much is kept of each layer that takes part.
    """

    model: nn.Module
    blocks: Blocks
    layerwise: Layerwise
    keepings: Mapping[str, Keeping]

    def masks(
        self, batches: Sequence[Any], device: torch.device | None, afterwards: Afterwards | None
    ) -> Iterator[tuple[str, Tensor]]:
        """The masks, bool and shaped like the weights, each layer's as soon as it is found.

        Args:
            batches: inputs of the network.
            device: where blocks are run in turn; None: where they are.
            afterwards: what becomes of the weights; None: the pruned ones stay in the network.
        """
        before: dict[str, Tensor] = {}
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for turn in Chain(self.model, self.blocks, batches, device):
                _settle(before, parameters, afterwards)
                yield from self._pruned(turn, parameters, None if afterwards is None else before)
            _settle(before, parameters, afterwards)

    def _pruned(
        self, turn: Turn, parameters: Mapping[str, nn.Parameter], before: dict[str, Tensor] | None
    ) -> Iterator[tuple[str, Tensor]]:
        """Prune the layers of a block; what they were goes to `before`."""
        modules = _holders_in(self.model, turn)
        layers = {name: modules[name] for name in turn.weights if name in self.keepings}
        statistics = InputStatistics(self.layerwise.statistic, layers)
        if layers:
            with shown(layers.values(), statistics.add):
                turn.run()
        for statistic, names in statistics.taken():
            prepared = self.layerwise.prepare(statistic)
            for name in names:
                weight = parameters[name]
                matrix = as_matrix(layers[name], weight.detach())
                wide = matrix if matrix.dtype == torch.float64 else matrix.float()
                mask, moved = self.layerwise.prune(wide, prepared, self.keepings[name])
                if before is not None:
                    before[name] = weight.detach().clone()
                weight.copy_(from_matrix(layers[name], moved.masked_fill(~mask, 0.0), weight.shape))
                yield name, from_matrix(layers[name], mask, weight.shape).cpu()


def _holders_in(model: nn.Module, turn: Turn) -> dict[str, nn.Module]:
    """The layers of a block by the names that their weights have in the network."""
    within = {id(module) for module in turn.block.modules()}
    return {name: one for name, found in holders(model).items() for _, one in found[::-1] if id(one) in within}


def _settle(before: dict[str, Tensor], parameters: Mapping[str, nn.Parameter], afterwards: Afterwards | None) -> None:
    if afterwards is not None:
        for name, values in before.items():
            afterwards(name, parameters[name], values)
    before.clear()


def keepings_of(
    model: nn.Module, sets: Sequence[UnitSet], pools: Sequence[Pool], candidates: UnitMasks, scope: str
) -> dict[str, Keeping]:
    """What is kept of each layer, its weight seen as a matrix.

    Args:
        model: the network.
        sets: its units, single weights each.
        pools: as scope, granularity and criterion made them.
        candidates: the units that may be kept.
        scope: its name.

    Raises:
        UserError: layers compete with each other, which they cannot one after the other.
    """
    by_name = {one.name: one for one in sets}
    modules, parameters = holders(model), dict(model.named_parameters())
    found = {}
    for pool in pools:
        if len(pool.names) > 1:
            text = f"{scope} lets layers compete with each other, which is not possible block by block"
            raise UserError([Problem("mask.scope.order", f"{text}; use uniform, owl or ramp")])
        one = by_name[pool.names[0]]
        layer, weight = modules[one.name][0][1], parameters[one.name]
        rows = as_matrix(layer, weight).shape[0]
        count, parts = pool.kept, pool.rows
        if not one.run and parts not in (1, rows):
            # Output rows of a weight that is stored as [inputs, outputs].
            count = keep_count(one.size // rows, Decimal(count * parts) / Decimal(one.size))
            parts = rows
        may = candidates[one.name]
        allowed = None
        if not bool(may.all()):
            mask = masks_of_units([one], {one.name: may}, {one.name: weight.shape})[one.name]
            allowed = as_matrix(layer, mask)
        found[one.name] = Keeping(count, parts, one.run, allowed, pool.ties)
    return found


def masks_by_blocks(finder: Finder, share: Decimal) -> MaskSet:
    """The mask of a finder whose layers are decided block by block; the network is left as it was.

    Where the scoring data ask for moved weights, those of the pruned network are put there.
    """
    rule, data = finder.rule, finder.scoring_data
    layerwise = layerwise_of(rule)
    by = None if layerwise is None or data.moved is None else layerwise.moves
    batches = inputs_of(data.batches(1), rule.criterion.name)
    moved: dict[str, Tensor] = {}
    parameters = dict(finder.model.named_parameters())
    given = weights_digest((one.name, parameters[one.name]) for one in finder.sets) if by is not None else ""

    def afterwards(name: str, weight: nn.Parameter, before: Tensor) -> None:
        if by is not None:
            moved[name] = weight.detach().to("cpu", copy=True)
        put_back(name, weight, before)

    with in_mode(finder.model, rule.score.mode), seeded(finder):
        found = by_blocks(finder, share, batches, afterwards)
    if data.moved is not None and by is not None:
        data.moved[MOVED] = MovedWeights(by, rule.score.written, given, found.sha256, moved)
    return found


def by_blocks(finder: Finder, share: Decimal, batches: Sequence[Any], afterwards: Afterwards | None) -> MaskSet:
    """The same in the mode that the network is in, with what becomes of each block's weights; None: they are pruned."""
    rule, layerwise = finder.rule, layerwise_of(finder.rule)
    assert layerwise is not None
    pools = finder.pools(share, finder.candidates, lambda: finder.measuring({}, {}, finder.candidates))
    keepings = keepings_of(finder.model, finder.sets, pools, finder.candidates, rule.scope.name)
    order = BlockOrder(finder.model, finder.blocks, layerwise, keepings)
    masks = dict(order.masks(batches, finder.scoring_data.device, afterwards))
    if rule.control is None:
        return finder.with_receipt(_as_mask_set(finder, masks), share)
    sets = {one.name: one for one in finder.sets}
    kept = {name: units_of_masks([one], masks)[name] for name, one in sets.items()}
    runs = {name: one.run for name, one in sets.items()}
    dropped = {name: mask.int() + 1 for name, mask in kept.items()}
    chosen = Chosen(kept, finder.candidates, dropped, {}, finder.scoring_data.seed, runs)
    return finder.as_masks(rule.control.entry(axes.CONTROLS).make(chosen, **rule.control.options), share)


def _as_mask_set(finder: Finder, masks: Mapping[str, Tensor]) -> MaskSet:
    """Masks whose units are single weights, without a copy of them."""
    weights = finder.weights.items()
    whole = {n: masks[n] if n in masks else torch.ones(weight.shape, dtype=torch.bool) for n, weight in weights}
    return MaskSet(whole, {one.name: (one.size, int(masks[one.name].sum())) for one in finder.sets})


def with_masks(
    model: nn.Module, blocks: Blocks, layerwise: Layerwise, masks: Mapping[str, Tensor], batches: Sequence[Any]
) -> None:
    """Prune some layers of a network in place, block by block, by masks shaped like their weights."""
    modules = holders(model)
    keepings = {name: Keeping(0, allowed=as_matrix(modules[name][0][1], mask)) for name, mask in masks.items()}
    for _ in BlockOrder(model, blocks, layerwise, keepings).masks(batches, None, None):
        continue


def seeded(finder: Finder) -> AbstractContextManager[None]:
    """What layers like dropout draw depends on the seed and the round."""
    data = finder.scoring_data
    return layers_seeded(finder.model, derive(data.seed, "score layers", data.round_number, 1))


@contextlib.contextmanager
def in_mode(model: nn.Module, mode: str | None) -> Iterator[None]:
    """A network in ``train`` or ``eval`` mode (None: as its modules are); modes and buffers are put back."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    if mode is not None:
        model.train(mode == "train")
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for module, training in modes:
            module.training = training


def outliers(
    model: nn.Module, blocks: Blocks, names: Sequence[str], data: ScoringData, threshold: float
) -> dict[str, float]:
    """The outliers of every block of the dense network, on which scope ``owl`` rests.

    They are the share of weights whose |w| · ‖x‖₂ is more than `threshold` times the mean of their block.

    Args:
        model: the network, in the mode that it is in.
        blocks: its blocks; a layer outside of them is one by itself, and so is each layer where there are none.
        names: of the weights that take part.
        data: with the calibration batches.
        threshold: M, above 0.

    Returns:
        By weight, 0 to 1, the same for all weights of a block.

    Source: Yin et al. 2024, Outlier Weighed Layerwise Sparsity (OWL), arXiv 2310.05175, section 3; their code
        takes one mean for a block.
    """
    found: dict[str, float] = {}
    parameters = dict(model.named_parameters())
    batches = inputs_of(data.batches(1), "scope owl")
    with torch.no_grad():
        for turn in Chain(model, blocks, batches, data.device):
            modules = _holders_in(model, turn)
            layers = {name: modules[name] for name in names if name in modules}
            statistics = InputStatistics("squares", layers)
            with shown(layers.values(), statistics.add):
                turn.run()
            groups: dict[str, list[Tensor]] = {}
            for squares, sharing in statistics.taken():
                for name in sharing:
                    matrix = as_matrix(layers[name], parameters[name]).abs()
                    scores = matrix * squares.sqrt().to(matrix.dtype)
                    groups.setdefault(name if not blocks.name else "", []).append(scores.flatten())
            for key, parts in groups.items():
                mean = sum(float(part.sum(dtype=torch.float64)) for part in parts) / sum(p.numel() for p in parts)
                above = sum(int((part > threshold * mean).sum()) for part in parts)
                share = above / sum(part.numel() for part in parts)
                found.update(dict.fromkeys([key] if key else layers, share))
    return found
