"""Selects units whose scores lie on several workers: the masks of `selection.choose`, with only counts sent around.

The score at the border is found digit by digit: a floating-point number's bits, read as a whole number, have its order,
so that the workers add up how many of their scores have which digit, the highest first. That takes four sums of 256
counts for a float32 and eight for a float64, however many scores there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce

import torch
from torch import Tensor

from prune_search.pruning.mask.mask_set import HALF, Pool, ScoreError, UnitMasks, select
from prune_search.pruning.mask.selection import floors_first
from prune_search.tasks.workers import Workers

# Bits of a digit.
DIGIT = 8
# The whole numbers that floating-point numbers are read as.
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


@dataclass(frozen=True, eq=False)
class Shard:
    """What one worker holds of the scores of a layer: a run of its units.

    The runs of all workers follow each other in the order of their ranks, and make up the layer. A run can be empty.

    Attributes:
        values: of these units, [own]; larger is kept. Floating-point numbers.
        first: the number of the first of them in the layer.
        size: units of the whole layer.
    """

    values: Tensor
    first: int
    size: int


@dataclass(eq=False)
class _Contest:
    """Units that compete with each other, wherever they lie.

    Attributes:
        pool: that they are in.
        pieces: layer and which of this worker's units, in order of the layers.
        border: the lowest score that is kept.
        left: how many that have exactly this score are kept.
        equals: how many have it.
    """

    pool: Pool
    pieces: list[tuple[str, slice]]
    border: Tensor = field(default_factory=lambda: torch.tensor(0.0))
    left: int = 0
    equals: int = 0

    @property
    def by_order(self) -> bool:
        """Whether the first of the equal scores at the border are kept, and others are not."""
        return self.left < self.equals and self.pool.ties == "index"

    def over(self, values: Tensor) -> Tensor:
        """Which values [own] are kept whatever their order is, bool [own]."""
        some = self.left < self.equals and self.pool.ties != "keep"
        return values > self.border if some else values >= self.border


def choose_sharded(
    scores: Mapping[str, Shard], candidates: Mapping[str, Tensor], pools: Sequence[Pool], workers: Workers
) -> UnitMasks:
    """What `selection.choose` keeps of the whole layers, as far as this worker holds them; all of them call it.

    Args:
        scores: by layer, this worker's.
        candidates: by layer, bool [own]: which of this worker's units may be kept.
        pools: who competes with whom, and how many are kept of all workers' units.
        workers: that hold the rest.

    Returns:
        By layer, bool [own], on the scores' device.

    Raises:
        ScoreError: a candidate's score is not a number; on all workers.
    """

    def counted(masks: Mapping[str, Tensor]) -> dict[str, int]:
        counts = _totals([mask.sum() for mask in masks.values()], workers)
        return dict(zip(masks, counts, strict=True))

    return floors_first(partial(select_sharded, scores, workers=workers), candidates, list(pools), counted)


def select_sharded(
    scores: Mapping[str, Shard], candidates: Mapping[str, Tensor], pools: Sequence[Pool], workers: Workers
) -> UnitMasks:
    """What `mask_set.select` keeps, as far as this worker holds it; see `choose_sharded`."""
    dtype = reduce(torch.promote_types, [scores[name].values.dtype for pool in pools for name in pool.names])
    values = {
        name: scores[name].values.detach().reshape(-1).to(torch.float32 if dtype in HALF else dtype)
        for pool in pools
        for name in pool.names
    }
    allowed = {name: candidates[name].reshape(-1).to(one.device) for name, one in values.items()}
    _check(values, allowed, pools, workers)
    kept = {name: torch.zeros_like(allowed[name]) for name in values}
    contests = [_Contest(pool, [(name, slice(None)) for name in pool.names]) for pool in pools if pool.rows == 1]
    rows = [pool for pool in pools if pool.rows > 1]
    spans = _spans([scores[pool.names[0]] for pool in rows], workers)
    for pool, ends in zip(rows, spans, strict=True):
        (name,) = pool.names
        whole, broken = _rows_of(scores[name], scores[name].size // pool.rows, ends)
        kept[name][whole] = _of_whole_rows(values[name][whole], allowed[name][whole], pool, scores[name].size)
        contests += [_Contest(pool, [(name, piece)]) for piece in broken]
    _decide(contests, values, allowed, kept, workers)
    return kept


# --- who competes -------------------------------------------------------------------------------------------------


def _check(
    values: Mapping[str, Tensor], allowed: Mapping[str, Tensor], pools: Sequence[Pool], workers: Workers
) -> None:
    """Refuse scores that are not numbers, on all workers."""
    wrong = [torch.stack([(values[n].isnan() & allowed[n]).sum() for n in pool.names]).sum() for pool in pools]
    for pool, count in zip(pools, _totals(wrong, workers), strict=True):
        if count:
            raise ScoreError(f"the score of {pool.names[0]} or a later layer is not a number")


def _spans(shards: Sequence[Shard], workers: Workers) -> Iterator[list[int]]:
    """Where the shards of each layer begin, by rank."""
    firsts: Sequence[Sequence[int]] = [] if not shards else _by_rank([shard.first for shard in shards], shards, workers)
    return (list(ends) for ends in zip(*firsts, strict=True)) if firsts else iter(())


def _rows_of(shard: Shard, width: int, begins: Sequence[int]) -> tuple[slice, list[slice]]:
    """This worker's units of rows that no other has a part of; and those of every row that several have parts of.

    Args:
        shard: of the layer.
        width: units of a row.
        begins: where the shards begin, by rank.
    """
    last = shard.first + shard.values.numel()
    cut = sorted({begin // width for begin in begins if begin % width and begin < shard.size})

    def own(begin: int, end: int) -> slice:
        here = [min(max(place, shard.first), last) - shard.first for place in (begin, end)]
        return slice(*here)

    broken = [own(row * width, (row + 1) * width) for row in cut]
    begin, end = -(-shard.first // width) * width, last // width * width
    return own(begin, max(begin, end)), broken


def _of_whole_rows(values: Tensor, allowed: Tensor, pool: Pool, size: int) -> Tensor:
    """`mask_set.select` of whole rows, bool [units of them]."""
    width = size // pool.rows
    if not values.numel():
        return torch.zeros_like(allowed)
    (name,) = pool.names
    here = Pool((name,), pool.kept, values.numel() // width, ties=pool.ties)
    return select({name: values}, {name: allowed}, [here])[name].to(values.device)


# --- who is kept --------------------------------------------------------------------------------------------------


def _decide(
    contests: Sequence[_Contest],
    values: Mapping[str, Tensor],
    allowed: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    workers: Workers,
) -> None:
    """Write into `kept` what each contest keeps of this worker's units."""
    counts = [torch.stack([allowed[name][piece].sum() for name, piece in contest.pieces]).sum() for contest in contests]
    open_ones = []
    for contest, count in zip(contests, _totals(counts, workers), strict=True):
        if contest.pool.kept >= count:
            for name, piece in contest.pieces:
                kept[name][piece] = allowed[name][piece]
        elif contest.pool.kept > 0:
            open_ones.append(contest)
    if not open_ones:
        return
    _find_borders(open_ones, values, allowed, workers)
    for contest in open_ones:
        for name, piece in contest.pieces:
            kept[name][piece] = contest.over(values[name][piece]) & allowed[name][piece]
    _keep_first([contest for contest in open_ones if contest.by_order], values, allowed, kept, workers)


def _find_borders(
    contests: Sequence[_Contest], values: Mapping[str, Tensor], allowed: Mapping[str, Tensor], workers: Workers
) -> None:
    """Find the lowest kept score of each contest, a digit of its bits after the other."""
    inside = [
        [_in_order(values[name][piece][allowed[name][piece]]) for name, piece in contest.pieces] for contest in contests
    ]
    kind = inside[0][0].dtype
    width = torch.iinfo(kind).bits
    borders = [0] * len(contests)
    for contest in contests:
        contest.left = contest.pool.kept
    for shift in range(width - DIGIT, -1, -DIGIT):
        digits = [[_digit(ordered, shift, width) for ordered in parts] for parts in inside]
        counts = torch.stack([_histogram(parts) for parts in digits])
        workers.total([counts])
        for number, (contest, found) in enumerate(zip(contests, counts.tolist(), strict=True)):
            at = 2**DIGIT - 1
            while found[at] < contest.left:
                contest.left -= found[at]
                at -= 1
            contest.equals = found[at]
            borders[number] += at << shift
            inside[number] = [one[d == at] for one, d in zip(inside[number], digits[number], strict=True)]
    device = inside[0][0].device
    for contest, border in zip(contests, borders, strict=True):
        ordered = torch.tensor(border - 2 ** (width - 1), dtype=kind, device=device)
        contest.border = _flipped(ordered).view(next(t for t, bits in BITS.items() if bits == kind))


def _in_order(values: Tensor) -> Tensor:
    """Whole numbers in the order of floating-point ones; both zeros are the same."""
    return _flipped((values + 0.0).view(BITS[values.dtype]))


def _flipped(bits: Tensor) -> Tensor:
    """The bits of numbers below 0 turned around but for the sign: from a float's bits to its place, and back."""
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _digit(ordered: Tensor, shift: int, width: int) -> Tensor:
    """A digit of whole numbers, counted from the lowest number there is."""
    digit: Tensor = (ordered >> shift) & (2**DIGIT - 1)
    if shift == width - DIGIT:
        digit = digit ^ 2 ** (DIGIT - 1)
    return digit


def _histogram(parts: Sequence[Tensor]) -> Tensor:
    """How often each digit is there, int64 [256]."""
    return torch.stack([torch.bincount(part, minlength=2**DIGIT) for part in parts]).sum(0)


def _keep_first(
    contests: Sequence[_Contest],
    values: Mapping[str, Tensor],
    allowed: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    workers: Workers,
) -> None:
    """Of equal scores at the border, keep as many of the first as are left to keep, in the order of the whole."""
    pieces = [(contest, name, piece) for contest in contests for name, piece in contest.pieces]
    if not pieces:
        return
    places = [
        torch.nonzero((values[name][piece] == contest.border) & allowed[name][piece]).squeeze(1)
        for contest, name, piece in pieces
    ]
    by_rank = _by_rank([place.numel() for place in places], list(values.values()), workers)
    for number, ((contest, name, piece), place) in enumerate(zip(pieces, places, strict=True)):
        counts = [ranks[number] for ranks in by_rank]
        mine = min(place.numel(), max(0, contest.left - sum(counts[: workers.rank])))
        kept[name][piece][place[:mine]] = True
        contest.left -= min(contest.left, sum(counts))


# --- what is said -------------------------------------------------------------------------------------------------


def _totals(counts: Sequence[Tensor], workers: Workers) -> list[int]:
    """Counts, added up over the workers."""
    if not counts:
        return []
    found = torch.stack([count.to(torch.int64) for count in counts])
    workers.total([found])
    return [int(count) for count in found.tolist()]


def _by_rank(own: Sequence[int], like: Sequence[Tensor | Shard], workers: Workers) -> list[list[int]]:
    """Whole numbers of every worker, [workers][numbers]."""
    first = like[0]
    device = (first.values if isinstance(first, Shard) else first).device
    table = torch.zeros(workers.size, len(own), dtype=torch.int64, device=device)
    table[workers.rank] = torch.tensor(own, dtype=torch.int64)
    workers.total([table])
    found: list[list[int]] = table.tolist()
    return found
