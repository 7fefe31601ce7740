"""A stream: its batches in order, its state, and what it draws."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from made_tasks import Counted
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from prune_search.recipe.problems import UserError
from prune_search.tasks.streams import Streamed
from prune_search.training.loop import Feed


class Noisy(IterableDataset[tuple[Tensor, int]]):
    """Draws while it is read; has no length, and counts its epochs."""

    def __init__(self, count: int = 7) -> None:
        self.count, self.place, self.epoch = count, 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        while self.place < self.count:
            self.place += 1
            yield torch.rand(2), 100 * self.epoch + self.place - 1
        self.place = 0

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place, self.epoch = state["place"], state["epoch"]


def feed(dataset: Any, batch: int = 2) -> Feed:
    return Feed(Streamed(dataset, default_collate), batch, 3)


def test_a_stream_goes_on_from_its_stored_state_with_the_same_batches() -> None:
    for dataset in (Noisy(), Counted(7, 0)):
        whole, broken = feed(dataset), feed(dataset)
        wanted = [whole(step) for step in range(9)]
        hook = broken.state_hook()
        assert hook is not None
        assert hook.state is not None
        for step in range(9):
            state = {name: tensor.clone() for name, tensor in hook.state().items()}
            # A new process: nothing of the old one is left.
            broken = feed(copy.deepcopy(dataset))
            hook = broken.state_hook()
            assert hook is not None
            assert hook.load is not None
            assert hook.state is not None
            hook.load(state)
            inputs, labels = broken(step)
            assert torch.equal(inputs, wanted[step][0])
            assert torch.equal(labels, wanted[step][1])


def test_an_earlier_batch_is_found_from_the_begin() -> None:
    read = feed(Noisy())
    batches = [read(step) for step in range(5)]
    assert all(torch.equal(read(step)[0], batches[step][0]) for step in (1, 4, 0))


def test_after_its_end_it_begins_anew_with_the_next_epoch_and_whole_batches() -> None:
    read = feed(Noisy())
    assert [read(step)[1].tolist() for step in range(5)] == [[0, 1], [2, 3], [4, 5], [100, 101], [102, 103]]
    with pytest.raises(UserError, match="the stream has fewer examples than a batch of 8"):
        feed(Noisy(), 8)(0)


def test_an_evaluation_is_one_pass_that_is_the_same_each_time_and_moves_no_draw() -> None:
    stream = Streamed(Noisy(), default_collate)
    before = torch.get_rng_state(), random.getstate()
    first, second = (list(stream.parts(3)) for _ in range(2))
    stream.first(2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert [labels.tolist() for _, labels in first] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, second, strict=True))
    assert [len(part) for part in stream.head(4)] == [4, 4]
    assert stream.dataset.place == 0


def test_one_that_yields_batches_is_taken_as_it_is() -> None:
    batches = Streamed([default_collate([(torch.ones(2), 1)] * 3)] * 2, None)
    assert [len(labels) for _, labels in batches.parts(64)] == [3, 3]
    assert len(batches.first(2)) == 2


def test_an_empty_one_is_told() -> None:
    with pytest.raises(UserError, match="the stream has no examples"):
        Streamed(Noisy(0), default_collate).head(2)
