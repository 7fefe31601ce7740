"""Shares of batches and splits; what several workers say to each other is in `training/test_data_parallel.py`."""

from __future__ import annotations

import pytest
import torch

from prune_search.tasks.workers import ALONE, EndedError, Workers, connected, digest_of_tensors


@pytest.mark.parametrize(("count", "size"), [(7, 1), (7, 2), (8, 3), (5, 5), (53, 4)])
def test_shares_are_those_of_tensor_split_and_their_parts_add_up_to_the_batch(count: int, size: int) -> None:
    inputs, labels = {"x": torch.arange(count)}, torch.arange(count) * 2
    shares = [Workers(rank, size).share(inputs, labels) for rank in range(size)]
    for (own, own_labels, part), wanted in zip(shares, torch.tensor_split(labels, size), strict=True):
        assert torch.equal(own_labels, wanted)
        assert torch.equal(own["x"] * 2, wanted)
        assert part == pytest.approx(len(wanted) / count)
    assert sum(part for _, _, part in shares) == pytest.approx(1.0)


def test_of_fewer_examples_than_workers_each_has_all() -> None:
    batch = torch.arange(2)
    for rank in range(3):
        inputs, labels, part = Workers(rank, 3).share(batch, batch)
        assert inputs.tolist() == labels.tolist() == [0, 1]
        assert part == pytest.approx(1 / 3)


def test_batches_of_a_split_are_dealt_out_where_there_are_enough() -> None:
    workers = [Workers(rank, 3) for rank in range(3)]
    assert all(one.of_parts(21, 10) is one for one in workers)
    assert all(one.of_parts(20, 10) is ALONE for one in workers)
    assert all(one.of_parts(0, 10) is ALONE for one in workers)
    assert [[*one.dealt(range(5))] for one in workers] == [
        [(0, True), (3, True)],
        [(1, True), (4, True)],
        [(2, True)],
    ]
    # Whoever would make a pass less than the others repeats the last batch.
    assert [*workers[2].dealt(range(5), in_step=True)] == [(2, True), (4, False)]
    assert [len([*one.dealt(range(7), in_step=True)]) for one in workers] == [3, 3, 3]
    assert [len([*one.dealt(range(6), in_step=True)]) for one in workers] == [2, 2, 2]


def test_one_worker_decides_for_itself_and_asks_nobody() -> None:
    tensor = torch.ones(2)
    ALONE.total([tensor])
    ALONE.same([tensor])
    ALONE.alike("a", "mask")
    assert ALONE.agreed(lambda: 3) == 3
    assert ALONE.sums([1.5]) == [1.5]
    assert ALONE.sent({"a": tensor})["a"] is tensor
    assert tensor.tolist() == [1.0, 1.0]
    with pytest.raises(EndedError), connected():
        raise EndedError("not a lost connection")


def test_a_digest_is_of_every_bit() -> None:
    one = [torch.tensor([0.0, 1.0]), torch.tensor(3), torch.ones(2, dtype=torch.bool), torch.empty(0)]
    other = [torch.tensor([-0.0, 1.0]), *one[1:]]
    assert digest_of_tensors(one) == digest_of_tensors([tensor.clone() for tensor in one])
    assert digest_of_tensors(one) != digest_of_tensors(other)
