"""Masks: exact selection with a fixed tie order, application, receipt and digest.

Ties: of equal scores the unit that comes first is kept; layers are in the network's module order, and units within a
layer in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.counts import keep_count
from prune_search.pruning.mask.receipt import LayerReceipt, LeftOut, Receipt
from prune_search.recipe.problems import Problem, UserError
from prune_search.storage.digests import masks_digest
from prune_search.tasks.experts import close_routes
from prune_search.tasks.layers import DECLARED, left_whole, undeclared
from prune_search.tasks.shards import gathered, is_shard, part_of, resharded, sharded_like

UnitMasks = dict[str, Tensor]
Values = npt.NDArray[Any]
# From so many scores on a sample of them is looked at first, and how large it is.
MANY, SAMPLE = 16384, 2048
# From so many scores in a row on the rows are not sorted.
WIDE = 32
# Types whose scores are compared as float32, which NumPy knows.
HALF = (torch.bfloat16, torch.float16)


class ScoreError(Exception):
    """A score is not a number, so scores have no order."""


class UnclearError(Exception):
    """Scores differ by less than their error where it is decided what is kept."""


@dataclass(frozen=True, eq=False)
class MaskSet(Mapping[str, Tensor]):
    """One bool tensor per prunable weight (see `tasks.layers.prunable_weights`), True where it is kept.

    Of a network that is sharded over workers (`fully_shard`) the tensors are DTensors, sharded like its weights. What
    counts or hashes them is then called by all workers, as they do a training step.

    Attributes:
        masks: by parameter name, in module order; layers that take no part are all True.
        units: units per layer that takes part, with the units kept: name -> (units, kept).
        asked: the asked kept units, and the asked sparsity.
        held: biases and normalization parameters of removed outputs, by parameter name, False where they are 0 too.
            They are no part of the mapping, the digest or the sparsity: they follow from the mask.
        sizes: of all parameters of the network, by name; empty where it is not known.
        left_out: parameters that take no part, and why: weights that could be pruned, and what more has rows and
            columns.
        fused: parameters that the network has no more, with the layer that stands for them (see `tasks.fusion`). Their
            masks keep nothing, and have the shapes that the parameters had.
        blocks: which blocks the mask was found in, one after the other; empty: it was not.
        budget: the kind of cost that was asked for, the share of the dense network's that was asked, and the one that
            the network without what is removed comes to; None: none was.
    """

    masks: Mapping[str, Tensor]
    units: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    asked: tuple[int, float] | None = None
    held: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, str] = field(default_factory=dict)
    blocks: str = ""
    budget: tuple[str, float, float] | None = None

    def __repr__(self) -> str:
        """In one line; nothing is counted, which workers with shards would do together."""
        return f"MaskSet({len(self.masks)} masks of {sum(mask.numel() for mask in self.masks.values()):,} weights)"

    def __getitem__(self, name: str) -> Tensor:
        return self.masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.masks)

    def __len__(self) -> int:
        return len(self.masks)

    @cached_property
    def sha256(self) -> str:
        """Digest of names, shapes and bits, in hex."""
        return masks_digest(self.masks)

    @cached_property
    def kept(self) -> Mapping[str, int]:
        """Layer to the number of its weights that are kept."""
        return {name: int(gathered(mask.sum())) for name, mask in self.masks.items()}

    @property
    def everything(self) -> Mapping[str, Tensor]:
        """The masks of the weights and of what is held with them."""
        return {**self.masks, **self.held}

    @property
    def present(self) -> Mapping[str, Tensor]:
        """Of `everything`, what the network still has."""
        return {name: mask for name, mask in self.everything.items() if name not in self.fused}

    def sparsity(self) -> float:
        """1 - kept/total over all prunable weights: of convolutions, linear and recurrent layers, and attention."""
        total = sum(mask.numel() for mask in self.masks.values())
        return 1.0 - sum(self.kept.values()) / total if total else 0.0

    def sparsity_of_all_parameters(self) -> float | None:
        """The share of all parameters of the network that is removed; None where the others are not known."""
        total = sum(self.sizes.values())
        if not total:
            return None
        removed = sum(mask.numel() - self.kept[name] for name, mask in self.masks.items())
        return (removed + sum(int((~mask).sum()) for mask in self.held.values())) / total

    def of_network(self, model: nn.Module, left_out: Mapping[str, str] | None = None) -> MaskSet:
        """The same mask, with what is known of the network's other parameters.

        Args:
            model: whose mask it is.
            left_out: prunable weights that take no part, and why.
        """
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        sizes.update({name: self.everything[name].numel() for name in self.fused})
        reasons = dict.fromkeys(left_whole(model), "layers of this kind are not pruned")
        reasons.update(dict.fromkeys(undeclared(model), f"held by a module that does not name it in {DECLARED}"))
        return replace(self, sizes=sizes, left_out={**(left_out or {}), **reasons})

    def receipt(self) -> Receipt:
        """Asked and reached, per layer and in total."""
        layers = tuple(
            LayerReceipt(name, mask.numel(), self.kept[name], *self.units.get(name, (0, 0)), self.fused.get(name, ""))
            for name, mask in self.masks.items()
        )
        kept = sum(count for _, count in self.units.values())
        reached = self.sparsity()
        asked_units, asked = self.asked if self.asked is not None else (kept, reached)
        left_out = tuple(LeftOut(name, self.sizes.get(name, 0), why) for name, why in self.left_out.items())
        of_all = self.sparsity_of_all_parameters()
        return Receipt(
            asked, reached, asked_units, kept, layers, of_all, left_out, blocks=self.blocks, budget=self.budget
        )

    def apply(self, model: nn.Module) -> None:
        """Set the masked weights of `model`, and what is held with them, to exactly 0 (never to -0).

        Experts of which nothing is left are not routed to any more (`tasks.experts.close_routes`).

        Raises:
            KeyError: a parameter is missing in the model, which is left as it was.
            UserError: parameters have other shapes; likewise.
        """
        resharded(model)
        parameters = dict(model.named_parameters())
        masked = [(name, parameters[name], mask) for name, mask in self.present.items()]
        if other := [one for one in masked if one[1].shape != one[2].shape]:
            shapes = ((name, list(mask.shape), list(weight.shape)) for name, weight, mask in other)
            raise UserError(
                Problem("model", f"{name} is {ours} in the mask and {theirs} in the network")
                for name, ours, theirs in shapes
            )
        with torch.no_grad():
            for _, weight, mask in masked:
                weight.masked_fill_(~mask.to(weight.device), 0.0)
        close_routes(model, self.present)


def keep_all(weights: Mapping[str, Tensor]) -> MaskSet:
    """A mask that keeps every weight: bool tensors with the shapes [...] of the weights, and sharded like them."""

    def ones(weight: Tensor) -> Tensor:
        if is_shard(weight):
            return sharded_like(torch.ones_like(part_of(weight), dtype=torch.bool), weight)
        return torch.ones(weight.shape, dtype=torch.bool)

    return MaskSet({name: ones(weight) for name, weight in weights.items()})


@dataclass(frozen=True)
class Pool:
    """Layers whose units compete with each other, and how many of them are kept.

    Attributes:
        names: of the layers.
        kept: units to keep; with rows, of each row.
        rows: equal runs of a single layer's units that compete within themselves only.
        least: units that each layer keeps at least.
        ties: of equal scores at the border the first are kept (``index``), all of them (``keep``), or none (``drop``).
        floors: units that single layers keep at least, where they need more than `least`.
    """

    names: tuple[str, ...]
    kept: int
    rows: int = 1
    least: int = 0
    ties: str = "index"
    floors: Mapping[str, int] = field(default_factory=dict)

    def floor(self, name: str) -> int:
        """How many units a layer keeps at least."""
        return max(self.least, self.floors.get(name, 0))


def by_row(
    pools: list[Pool],
    layers: Mapping[str, tuple[tuple[int, ...], int]],
    share: Decimal,
    rounding: str = "half-up",
    whole: bool = False,
) -> list[Pool]:
    """Pools in which single weights compete within their output row only, or within their layer.

    What the pools say of a layer, its kept share, becomes that of each of its rows, or of the layer.

    Args:
        pools: as the scope made them.
        layers: name -> (shape of the weight, units). A layer whose units are not single weights stays as it is.
        share: the asked kept share of all units.
        rounding: of the counts of rows, see `counts.keep_count`.
        whole: a layer is one group, and not each of its rows.
    """
    found = []
    for pool in pools:
        total = sum(layers[name][1] for name in pool.names)
        # A count that is the rounded share is not rounded a second time.
        exact = share if pool.kept == keep_count(total, share, rounding) else Decimal(pool.kept) / max(1, total)
        for name in pool.names:
            shape, units = layers[name]
            rows = shape[0] if units == math.prod(shape) and not whole else 1
            alone = rows == 1 and len(pool.names) == 1
            found.append(Pool((name,), pool.kept if alone else keep_count(units // rows, exact, rounding), rows))
    return found


def _highest(scores: Tensor, allowed: Tensor, pool: Pool, error: float) -> Tensor:
    """The pool's count of highest scores among those allowed, of equal scores as it says; bool [units].

    The lowest kept score is found without sorting: all above it are kept, and of its equals the first ones. NumPy
    selects and counts several times faster than torch does on one thread.
    """
    may = allowed.numpy()
    everything = bool(may.all())
    values = scores.numpy() if everything else scores.numpy()[may]
    if values.size and bool(torch.isnan(torch.from_numpy(values).amax())):
        raise ScoreError(f"the score of {pool.names[0]} or a later layer is not a number")
    if pool.kept >= values.size:
        return allowed.clone()
    if pool.kept == 0:
        return torch.zeros_like(allowed)
    border, below = _neighbours(values, values.size - pool.kept)
    if error and not border * (1 - error) > below * (1 + error):
        raise UnclearError
    if below == border and pool.ties == "drop":
        return torch.from_numpy(scores.numpy() > border) & allowed
    chosen = torch.from_numpy(scores.numpy() >= border)
    if not everything:
        chosen &= allowed
    if below == border and pool.ties == "index":
        equals = torch.nonzero((scores == border) & allowed).squeeze(1)
        more = int(chosen.sum()) - pool.kept
        chosen[equals[equals.numel() - more :]] = False
    return chosen


def _neighbours(values: Values, place: int) -> tuple[float, float]:
    """The number at a place, at least 1, of the values in ascending order, and the one before it.

    Of many values only those near the place are put in order: a sample says which those may be, and counts prove it.
    """
    near, before = values, 0
    if values.size > MANY:
        sample = np.sort(values[:: values.size // SAMPLE])
        at, around = place * sample.size // values.size, 4 * math.isqrt(sample.size)
        low = sample[at - around] if at > around else -np.inf
        high = sample[at + around] if at + around < sample.size else np.inf
        above = values >= low
        inside = values[above & (values <= high)]
        below = values.size - int(np.count_nonzero(above))
        if below < place < below + inside.size:
            near, before = inside, below
    ordered = np.partition(near, place - before)
    return float(ordered[place - before]), float(ordered[: place - before].max())


def _highest_of_rows(scores: Tensor, allowed: Tensor, pool: Pool) -> Tensor:
    """`_highest` of every row for itself, all rows at once."""
    if bool(torch.isnan(scores[allowed]).any()):
        raise ScoreError(f"the score of {pool.names[0]} or a later layer is not a number")
    rows, may = scores.reshape(pool.rows, -1), allowed.reshape(pool.rows, -1)
    if rows.shape[1] >= WIDE and 0 < pool.kept < rows.shape[1] and pool.ties == "index" and bool(may.all()):
        return _highest_of_wide_rows(rows.numpy(), pool.kept)
    order = torch.sort(rows.nan_to_num(nan=0.0), dim=1, descending=True, stable=True).indices
    # Those that may be kept come first, in the order of their scores.
    order = order.gather(1, torch.sort(may.gather(1, order).int(), dim=1, descending=True, stable=True).indices)
    chosen = torch.zeros_like(may).scatter_(1, order[:, : pool.kept], True) & may
    if pool.ties != "index":
        # Equals of those on the other side of the border come with them, or go with them.
        inside, outside = (
            rows.masked_fill(~there, fill) for there, fill in ((chosen, torch.inf), (may & ~chosen, -torch.inf))
        )
        border, below = inside.amin(1, keepdim=True), outside.amax(1, keepdim=True)
        chosen = may & (rows >= border) if pool.ties == "keep" else chosen & (rows > below)
    return chosen.reshape(-1)


def _highest_of_wide_rows(rows: Values, count: int) -> Tensor:
    """So many of each row's highest scores, of equal ones the first; without sorting them, which takes far longer."""
    place = rows.shape[1] - count
    border = np.partition(rows, place, axis=1)[:, place, None]
    chosen = rows >= border
    more = chosen.sum(1) - count
    for row in np.flatnonzero(more):
        equals = np.flatnonzero(rows[row] == border[row])
        chosen[row, equals[equals.size - more[row] :]] = False
    return torch.from_numpy(chosen.reshape(-1))


def select(
    scores: Mapping[str, Tensor], candidates: Mapping[str, Tensor], pools: list[Pool], error: float = 0.0
) -> UnitMasks:
    """Keep exactly the highest-scored units of each pool.

    Args:
        scores: per layer, [units], larger is kept.
        candidates: per layer, bool [units]: units that may be kept.
        pools: who competes with whom.
        error: bound of the relative error of scores that are at least 0.

    Returns:
        Per layer, bool [units]. A pool keeps as many units as it says, or all its candidates where they are fewer; of
        equal scores at the border it can keep more or fewer (`Pool.ties`).

    Raises:
        ScoreError: a candidate's score is not a number.
        UnclearError: with other scores within `error`, others could be kept.
    """
    kept: UnitMasks = {}
    for pool in pools:
        pooled = joined([scores[name].detach().reshape(-1).cpu() for name in pool.names])
        if pooled.dtype in HALF:
            pooled = pooled.float()
        allowed = joined([candidates[name].reshape(-1).cpu() for name in pool.names])
        highest = _highest_of_rows if pool.rows > 1 else partial(_highest, error=error)
        chosen = highest(pooled, allowed, pool)
        sizes = [scores[name].numel() for name in pool.names]
        kept.update(zip(pool.names, torch.split(chosen, sizes), strict=True))
    return kept


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate parts [n_i] into one tensor [Σ n_i]; without a copy if they are already adjacent in memory.

    Args:
        parts: one-dimensional.
    """
    first, place = parts[0], parts[0].storage_offset()
    storage = first.untyped_storage().data_ptr()
    for part in parts:
        there = part.untyped_storage().data_ptr() == storage and part.storage_offset() == place
        if not there or part.dtype != first.dtype or not part.is_contiguous():
            return torch.cat(list(parts))
        place += part.numel()
    return first.as_strided((place - first.storage_offset(),), (1,))


def rounded(
    kept: UnitMasks, scores: Mapping[str, Tensor], candidates: Mapping[str, Tensor], multiple: int
) -> UnitMasks:
    """Round the number of kept units [units] of every layer to the nearest multiple (half up), at least one multiple.

    Of more units the highest-scored that may be kept are taken, of fewer the lowest-scored are given up; a layer in
    which less than a multiple may be kept stays as it is.

    Example:
        In multiples of 8, 13 of 64 become 16, 11 become 8, and 3 become 8.
    """
    if multiple == 1:
        return kept
    pools = []
    for name, mask in kept.items():
        most = int(candidates[name].sum()) // multiple * multiple
        count = int(mask.sum())
        wanted = max(multiple, (2 * count + multiple) // (2 * multiple) * multiple)
        pools.append(Pool((name,), min(wanted, most) if most else count))
    return select(scores, candidates, pools)
