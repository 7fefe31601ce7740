"""Selection of units whose scores lie on several workers, against the selection of the whole: bit for bit."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from prune_search.pruning.mask.mask_set import Pool, ScoreError
from prune_search.pruning.mask.selection import choose
from prune_search.pruning.mask.sharded_selection import Shard, choose_sharded
from prune_search.tasks.workers import ALONE, Workers

TIMEOUT_S = 20.0


@dataclass
class Meeting:
    """What workers that are threads add up, and how many bytes each of them gives."""

    size: int
    moved: int = 0
    given: dict[int, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size)

    def total(self, rank: int, tensors: Sequence[Tensor]) -> None:
        self.given[rank] = [tensor.clone() for tensor in tensors]
        self.barrier.wait(TIMEOUT_S)
        sums = [torch.stack(parts).sum(0) for parts in zip(*(self.given[r] for r in range(self.size)), strict=True)]
        if rank == 0:
            self.moved += sum(int(tensor.nbytes) for tensor in tensors)
        self.barrier.wait(TIMEOUT_S)
        for tensor, one in zip(tensors, sums, strict=True):
            tensor.copy_(one)


@dataclass
class Thread:
    """A worker that is a thread, as far as the selection uses one."""

    rank: int
    size: int
    meeting: Meeting

    def total(self, tensors: Sequence[Tensor]) -> None:
        self.meeting.total(self.rank, tensors)


def by_all(size: int, work: Callable[[Workers], Any]) -> tuple[list[Any], int]:
    """What each of so many workers finds, and the bytes that one of them gave to be added up."""
    meeting = Meeting(size)
    with ThreadPoolExecutor(size) as pool:
        running = [pool.submit(work, cast(Workers, Thread(rank, size, meeting))) for rank in range(size)]
        return [one.result(TIMEOUT_S) for one in running], meeting.moved


def sharded(
    scores: Mapping[str, Tensor],
    candidates: Mapping[str, Tensor],
    pools: list[Pool],
    ends: Mapping[str, Sequence[int]],
) -> tuple[dict[str, Tensor], int]:
    """The whole masks of workers that hold the units from one end to the next of each layer, and the bytes moved."""
    size = len(next(iter(ends.values()))) - 1

    def work(workers: Workers) -> dict[str, Tensor]:
        own = {name: slice(*ends[name][workers.rank : workers.rank + 2]) for name in scores}
        shards = {name: Shard(scores[name][part], part.start, scores[name].numel()) for name, part in own.items()}
        return choose_sharded(shards, {name: candidates[name][part] for name, part in own.items()}, pools, workers)

    found, moved = by_all(size, work)
    assert all(list(one) == list(found[0]) for one in found)
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}, moved


def cut(units: int, size: int, draw: random.Random) -> list[int]:
    """Where the shards of a layer end: anywhere, and some are empty."""
    return [0, *sorted(draw.choices(range(units + 1), k=size - 1)), units]


def drawn(units: int, dtype: torch.dtype, draw: random.Random, finite: bool) -> Tensor:
    """Scores with many equals, both zeros and infinities."""
    values = [0.0, -0.0, 1.0, -1.0, 1.0 + 2**-20, 3e-42, 1e30, *([] if finite else [torch.inf, -torch.inf])]
    some = torch.tensor([draw.choice(values) for _ in range(units)], dtype=dtype)
    other = torch.randn(units, generator=torch.Generator().manual_seed(draw.randrange(2**30))).to(dtype)
    return torch.where(torch.rand(units) < draw.random(), some, other)


DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_masks_are_those_of_the_whole(size: int) -> None:
    torch.manual_seed(size)
    draw, partly = random.Random(size), 0
    for _ in range(60):
        units = {name: draw.randrange(1, 40) for name in "abc"}
        scores = {name: drawn(count, draw.choice(DTYPES), draw, finite=False) for name, count in units.items()}
        candidates = {name: torch.rand(count) < draw.choice([0.3, 1.0]) for name, count in units.items()}
        ties, least = draw.choice(["index", "index", "keep", "drop"]), draw.choice([0, 0, 3])
        groups: list[tuple[str, ...]] = draw.choice([[("a", "b", "c")], [("c", "a"), ("b",)], [("a",), ("b",), ("c",)]])
        pools = [
            Pool(names, draw.randrange(sum(units[name] for name in names) + 2), least=least, ties=ties)
            for names in groups
        ]
        wanted = choose(scores, candidates, pools)
        found, _ = sharded(scores, candidates, pools, {name: cut(count, size, draw) for name, count in units.items()})
        assert set(found) == set(wanted)
        for name, mask in wanted.items():
            assert torch.equal(found[name], mask), (pools, scores, candidates)
            partly += 0 < int(mask.sum()) < mask.numel()
    assert partly > 60


@pytest.mark.parametrize("size", [2, 3])
def test_rows_that_several_workers_hold_parts_of_are_decided_too(size: int) -> None:
    torch.manual_seed(size)
    draw, broken = random.Random(size), 0
    for _ in range(60):
        width, rows = draw.choice([4, 8, 40]), draw.randrange(2, 6)
        units = {"a": width * rows, "b": width * 2}
        scores = {name: drawn(count, torch.float32, draw, finite=True) for name, count in units.items()}
        candidates = {name: torch.rand(count) < draw.choice([0.6, 1.0]) for name, count in units.items()}
        kept, ties = draw.randrange(1, width), draw.choice(["index", "keep", "drop"])
        pools = [Pool((name,), kept, units[name] // width, ties=ties) for name in units]
        ends = {name: cut(count, size, draw) for name, count in units.items()}
        broken += any(end % width for end in ends["a"])
        wanted = choose(scores, candidates, pools)
        found, _ = sharded(scores, candidates, pools, ends)
        assert {name: mask.tolist() for name, mask in found.items()} == {n: m.tolist() for n, m in wanted.items()}
    assert broken > 20


def test_what_is_moved_does_not_grow_with_the_scores() -> None:
    moved = []
    for units in (1000, 100_000):
        scores, everything = {"a": torch.rand(units)}, {"a": torch.ones(units, dtype=torch.bool)}
        found, given = sharded(scores, everything, [Pool(("a",), units // 10)], {"a": [0, units // 3, units]})
        assert int(found["a"].sum()) == units // 10
        moved.append(given)
    # Four sums of 256 counts, and a few more: the scores themselves would be 400,000 bytes.
    assert moved[1] <= 4 * 256 * 8 + 64
    assert moved[0] <= moved[1]


def test_every_worker_refuses_a_score_that_is_no_number() -> None:
    def work(workers: Workers) -> str:
        own = torch.tensor([1.0, torch.nan]) if workers.rank == 1 else torch.tensor([1.0, 2.0])
        shards, allowed = {"a": Shard(own, 2 * workers.rank, 4)}, {"a": torch.ones(2, dtype=torch.bool)}
        with pytest.raises(ScoreError) as said:
            choose_sharded(shards, allowed, [Pool(("a",), 1)], workers)
        # One that cannot be kept is not looked at.
        choose_sharded(shards, {"a": torch.tensor([True, False])}, [Pool(("a",), 1)], workers)
        return str(said.value)

    assert by_all(2, work)[0] == ["the score of a or a later layer is not a number"] * 2


def test_one_worker_has_it_all() -> None:
    shard = Shard(torch.tensor([2.0, 1.0, 2.0, 3.0]), 0, 4)
    found = choose_sharded({"a": shard}, {"a": torch.ones(4, dtype=torch.bool)}, [Pool(("a",), 2)], ALONE)
    assert found["a"].tolist() == [True, False, False, True]
