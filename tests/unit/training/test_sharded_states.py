"""Which tensors of a state are shards. What several workers store is read in `integration/test_sharded_trials.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from prune_search.storage.states import read_state
from prune_search.tasks.shards import gathered, is_shard, shard_network
from prune_search.tasks.workers import ALONE
from prune_search.training.segment import load_model, model_tensors
from prune_search.training.sharded_states import ShardedStates


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A group of one worker, which holds all rows of a network that is sharded nevertheless."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    shard_network(model, (), torch.device("cpu"))
    return model


def test_what_belongs_to_a_parameter_lies_where_it_lies() -> None:
    states = ShardedStates.of(network(), ALONE)
    for key in ("model/0.weight", "optimizer/0.weight/exp_avg", "hook/mask/mask/0.weight", "hook/ema/0.weight"):
        assert states.shard_of(key, (3, 4), torch.float32) is states.like["0.weight"]
    assert states.shard_of("hook/edge-popup/2.weight", (6,), torch.float32) is states.like["2.weight"]
    for key, shape in (
        ("optimizer/0.weight/step", ()),
        ("hook/mask/units/0.weight", (2,)),
        ("model/1.running_mean", (3,)),
        ("hook/growing-penalty/smoothed", (3, 4)),
    ):
        assert states.shard_of(key, shape, torch.float32) is None
    # Counts of units, be they as many as a weight has values.
    assert states.shard_of("hook/mask/units/2.weight", (6,), torch.int64) is None


def test_a_state_comes_back_as_shards(tmp_path: Path) -> None:
    model = network()
    states = ShardedStates.of(model, ALONE)
    before = model_tensors(model)
    assert {key for key, one in before.items() if is_shard(one)} == {f"model/{name}" for name in states.like}
    states.write(tmp_path / "step-000000001", before, {"step": 1})
    stored = read_state(tmp_path / "step-000000001")
    assert stored is not None
    assert not any(map(is_shard, stored.tensors.values()))
    found = states.divided(stored.tensors)
    assert found.keys() == before.keys()
    assert all(torch.equal(gathered(found[name]), gathered(one)) for name, one in before.items())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_model(model, found)
    assert all(torch.equal(gathered(one), gathered(before[key])) for key, one in model_tensors(model).items())


def test_a_valid_state_is_kept(tmp_path: Path) -> None:
    model = network()
    states = ShardedStates.of(model, ALONE)
    states.write(tmp_path / "step-000000001", model_tensors(model), {"step": 1})
    states.write(tmp_path / "step-000000001", {}, {"step": 2})
    stored = read_state(tmp_path / "step-000000001")
    assert stored is not None
    assert stored.meta == {"step": 1}
