"""Batches by number: the same bits whoever reads them, wherever one begins, and no draw moved outside."""

from __future__ import annotations

import gc
import random
from multiprocessing import active_children
from typing import Any

import numpy
import pytest
import torch
from made_tasks import Pairs
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.examples import Held, Listed, Usage, drawing, seed_all
from prune_search.tasks.request import Request
from prune_search.tasks.structures import tensors_in
from prune_search.training.loop import Feed


class Drawn(Dataset[tuple[Any, int]]):
    """Each example is drawn anew when it is read, from all three generators."""

    def __init__(self, count: int = 22) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return torch.tensor([torch.rand(()).item(), numpy.random.rand(), random.random()]), index


def listed(workers: int = 0) -> Listed:
    return Listed(Drawn(), default_collate, workers=workers)


def feed(workers: int, seed: int = 3, *words: str) -> Feed:
    return Feed(listed(workers), 5, seed, words, ahead=True)


def same(one: Any, other: Any) -> bool:
    pairs = zip(tensors_in(one), tensors_in(other), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_workers_give_the_same_bits_and_one_can_begin_in_the_middle(workers: int) -> None:
    alone = [feed(0)(step) for step in range(10)]
    read = feed(workers)
    assert all(same(read(step), alone[step]) for step in range(10))
    begun = feed(workers)
    assert all(same(begun(step), alone[step]) for step in (7, 8, 9, 2))


def test_every_epoch_draws_anew_and_another_seed_or_stream_other_numbers() -> None:
    read = feed(0)
    epochs = [[read(step) for step in range(4 * epoch, 4 * epoch + 4)] for epoch in range(2)]
    for batches in epochs:
        chosen = torch.cat([labels for _, labels in batches])
        assert len(set(chosen.tolist())) == 20
    by_index = [
        {int(label): inputs for batch in batches for inputs, label in zip(*batch, strict=True)} for batches in epochs
    ]
    common = by_index[0].keys() & by_index[1].keys()
    assert common
    assert not any(torch.equal(by_index[0][index], by_index[1][index]) for index in common)
    assert not same(feed(0, 4)(0), read(0))
    assert not same(feed(0, 3, "score")(0), read(0))


def test_what_reading_draws_moves_no_draw_outside() -> None:
    def states() -> tuple[Tensor, Any, Any]:
        drawn: Any = numpy.random.get_state()
        return torch.get_rng_state(), drawn[1].tolist(), random.getstate()

    before = states()
    for workers in (0, 1):
        feed(workers)(0)
        list(listed(workers).parts(3))
        listed().first(4)
    after = states()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    with drawing():
        seed_all(3, 1)
        one = torch.rand(()), numpy.random.rand(), random.random()
        seed_all(3, 1)
        assert one == (torch.rand(()), numpy.random.rand(), random.random())
    assert states()[1:] == before[1:]


def test_all_examples_come_in_their_order_and_the_same_each_time() -> None:
    parts = list(listed().parts(5))
    assert [len(labels) for _, labels in parts] == [5, 5, 5, 5, 2]
    assert torch.cat([labels for _, labels in parts]).tolist() == list(range(22))
    assert same(parts, list(listed(1).parts(5)))
    some = listed().chosen(torch.tensor([4, 20, 7]))
    assert len(some) == 3
    assert [labels.tolist() for _, labels in some.parts(2)] == [[4, 20], [7]]
    assert [some.at(place) for place in range(3)] == [4, 20, 7]
    again = some.chosen(torch.tensor([2, 0]))
    assert [labels.tolist() for _, labels in again.parts(2)] == [[7, 4]]


def test_arrays_and_listed_examples_are_put_in_the_same_order() -> None:
    content = default_collate([Pairs(30, 0)[index] for index in range(30)])
    del content["identity"]
    held, one_by_one = Held(content, Usage()), Listed(Pairs(30, 0), default_collate)
    for step in range(6):
        first, second = (Feed(split, 8, 1)(step) for split in (held, one_by_one))
        assert torch.equal(first[1], second[1])
        assert torch.equal(first[0].content["words"], second[0].content["words"])
    assert held.first(3).content["words"].dtype == torch.int64
    assert [len(part["label"]) for part in held.parts(20)] == [20, 10]
    assert len(held.chosen(torch.tensor([1, 2]))) == 2


def test_some_of_arrays_are_those_examples_and_nothing_is_copied() -> None:
    content = (torch.arange(40.0).view(20, 2), torch.arange(20))
    some = Held(content).chosen(torch.tensor([19, 3, 4, 11])).chosen(torch.tensor([3, 0, 1]))
    assert some.content is content
    assert len(some) == 3
    assert some.target.tolist() == some.head(9)[1].tolist() == [11, 19, 3]
    assert [labels.tolist() for _, labels in some.parts(2)] == [[11, 19], [3]]
    inputs, labels = some.reader(lambda step: Request(torch.tensor([2, 0]), lambda: 0), 2, False)(0)
    assert (inputs.tolist(), labels.tolist()) == ([[6, 7], [22, 23]], [3, 11])


def test_nothing_that_is_read_from_arrays_shares_their_memory() -> None:
    content = (torch.ones(8, 2), torch.zeros(8, dtype=torch.int64))
    whole = Held(content)
    for split in (whole, whole.chosen(torch.arange(2, 8))):
        read = split.reader(lambda step: Request(torch.arange(4), lambda: 0), 4, False)(0)
        for inputs, labels in (*split.parts(3), split.head(2), read):
            inputs.mul_(5)
            labels.add_(1)
        split.first(3).zero_()
    assert bool((content[0] == 1).all())
    assert not bool(content[1].any())


def test_the_loss_is_given_the_target_or_the_whole_batch() -> None:
    batch = (torch.ones(2, 3), torch.zeros(2))
    assert Usage().pair(batch)[1] is batch[1]
    assert Usage(whole=True).pair(batch)[1] is batch


def test_how_long_a_step_waits_is_counted() -> None:
    read = feed(0)
    assert read.waited_s == 0
    read(0)
    assert read.waited_s > 0


class Broken(Drawn):
    """One of its examples is gone."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == 7:
            raise FileNotFoundError("no example 7 any more")
        return super().__getitem__(index)


def ragged(examples: list[Any]) -> Any:
    raise ValueError("shapes differ")


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_what_cannot_be_read_in_the_middle_of_a_training_is_told_in_one_line(workers: int) -> None:
    read = Feed(Listed(Broken(), default_collate, workers=workers), 22, 3, (), ahead=True)
    with pytest.raises(UserError) as caught:
        read(0)
    (problem,) = caught.value.problems
    assert problem.path == "task"
    assert problem.message.startswith("example 7 cannot be read: FileNotFoundError: no example 7 any more (line ")
    assert problem.message.endswith("test_examples.py)")
    read = Feed(Listed(Drawn(), ragged, workers=workers), 22, 3, (), ahead=True)
    with pytest.raises(UserError, match=r"collate cannot make a batch of the examples 16, 13, 3 …: ValueError: shapes"):
        read(0)


def test_a_line_that_a_data_set_tells_itself_stays_as_it_is() -> None:
    told = UserError([Problem("task.data.folder", "3.png cannot be decoded")])

    class Told(Drawn):
        def __getitem__(self, index: int) -> tuple[Any, int]:
            raise told

    for workers in (0, 1):
        with pytest.raises(UserError, match=r"^task.data.folder: 3.png cannot be decoded$"):
            Feed(Listed(Told(), default_collate, workers=workers), 5, 3, (), ahead=True)(0)


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_the_processes_of_a_reader_end_with_it_and_are_not_left_to_the_garbage_collector(how: str) -> None:
    gc.disable()
    try:
        read, before = feed(1), set(active_children())
        first = read(0)
        workers = set(active_children()) - before
        assert len(workers) == 1
        if how == "closed":
            read.close()
            assert same(read(0), first)
            read.close()
        del read
        # Torch waits for five seconds for a worker that was not told, and kills it.
        assert [worker.exitcode for worker in workers] == [0]
        assert set(active_children()) == before
    finally:
        gc.enable()
