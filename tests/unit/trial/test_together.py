"""What the first worker says for all; what several processes hear of it is in `training/test_data_parallel.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from prune_search.storage.measurements import Measurements
from prune_search.tasks.workers import ALONE, Workers
from prune_search.training.state_store import PausedError, PreemptedError
from prune_search.trial.callbacks import Silent
from prune_search.trial.together import AgreedSink, taken


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A group of one worker, without a network."""
    dist.init_process_group(
        "gloo",
        store=dist.HashStore(),  # type: ignore[attr-defined]
        rank=0,
        world_size=1,
    )
    yield
    dist.destroy_process_group()


class Asking(Silent):
    """Asks for an end at one step, and for a measurement at another."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, step: int, total: int, loss: torch.Tensor) -> None:
        self.steps.append(step)
        if step == 3:
            raise PreemptedError("now")

    def observe_at(self, total: int, epoch: int, settled: int) -> set[int]:
        return {7, 2}

    def observed(self, seen: Any) -> None:
        raise KeyError(seen)


def test_a_request_to_stop_is_heard_by_all_a_step_later() -> None:
    asking = Asking()
    sink = AgreedSink(asking, Workers.joined())
    loss = torch.zeros(())
    for step in (1, 2, 3):
        sink.step(step, 9, loss)
    with pytest.raises(PreemptedError):
        sink.step(4, 9, loss)
    assert asking.steps == [1, 2, 3, 4]
    sink.close()
    # A word that nobody has waited for is over with the sink.
    sink.step(5, 9, loss)
    sink.close()
    assert sink.observe_at(10, 2, 0) == [2, 7]
    with pytest.raises(KeyError, match="here"):
        sink.observed("here")  # type: ignore[arg-type]


def test_where_a_trial_rests_all_workers_store_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """All come to where a state is stored; whoever left before would be waited for."""

    class Resting(Silent):
        def observed(self, seen: Any) -> None:
            raise PausedError({"round": 1})

    with pytest.raises(PausedError) as first:
        AgreedSink(Resting(), Workers.joined()).observed("here")  # type: ignore[arg-type]
    assert first.value.at == {"round": 1}
    monkeypatch.setattr(Workers, "_heard", lambda self: (True, True))
    with pytest.raises(PreemptedError) as other:
        AgreedSink(Silent(), Workers(rank=1, size=2)).observed("here")  # type: ignore[arg-type]
    assert not isinstance(other.value, PausedError)


def test_the_sink_of_another_worker_hears_nothing_that_is_only_told() -> None:
    class Loud(Silent):
        def started(self, key: str, total: int) -> None:
            raise AssertionError("it was told")

        stage = reached = started  # type: ignore[assignment]

    sink = AgreedSink(Loud(), Workers(rank=1, size=2))
    sink.started("key", 3)
    sink.stage("train", 3)
    sink.reached("train", 3)
    with pytest.raises(AssertionError):
        AgreedSink(Loud(), ALONE).started("key", 3)


def test_a_measurement_is_taken_once(tmp_path: Path) -> None:
    count = 0

    def measure() -> dict[str, float]:
        nonlocal count
        count += 1
        return {"loss": 0.5}

    for _ in range(2):
        assert taken(ALONE, Measurements(tmp_path), {"kind": "scores"}, measure) == {"loss": 0.5}
    assert count == 1
