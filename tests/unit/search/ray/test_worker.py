"""One attempt of a trial on a worker, without Ray: what it returns, and what it writes down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_search import make_definition
from torch import Tensor, nn

from prune_search.ledger.records import TRIALS, Recorder, TrialRecords, read_trial
from prune_search.pruning.mask.scoring import Scores, Scoring
from prune_search.recipe.axes import CRITERIA, MODELS
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import read_space
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.ray.heartbeat import Heartbeat
from prune_search.search.ray.worker import UNSHARED, TrialJob, run_job, setup_of
from prune_search.search.stop_request import ask_to_stop
from prune_search.storage.inventory import take_inventory

SMALL: dict[str, Any] = {
    "task": {"data": "digits", "model": {"name": "mlp", "hidden": [8]}},
    "train": {"steps": "4it", "batch": 64},
    "mask": {"sparsity": 0.5},
}


@pytest.fixture(autouse=True)
def entries() -> Iterator[None]:
    """A criterion that is broken, and a model whose device is out of memory."""

    @CRITERIA.register("broken-here", summary="raises an error")
    def broken(scoring: Scoring) -> Scores:
        """Nothing."""
        raise ValueError("this criterion is broken")

    @MODELS.register("too-large", summary="is out of memory")
    def too_large(shape: tuple[int, ...], classes: int) -> nn.Module:
        """A perceptron."""

        class TooLarge(nn.Linear):
            def forward(self, inputs: Tensor) -> Tensor:
                if self.training:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried 20.00 GiB.\nSee the documentation")
                return super().forward(inputs)

        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), TooLarge(4, classes))

    yield
    CRITERIA.withdraw("broken-here")
    MODELS.withdraw("too-large")


def job_of(storage: Path, **changes: Any) -> TrialJob:
    """A trial that was proposed in a search."""
    raw = {"preset": "snip", **SMALL, **changes}
    search = make_definition(storage, "monday")
    recipe = read_space(raw, "a test").only_recipe()
    block = read_space({**raw, "search": {"trials": 1}, "rounds": {"hole": "int", "low": 1, "high": 2}}, "x").search
    Recorder(search, "000001").write("proposed", {"recipe": recipe.canonical, "number": 1, "name": "001-snip"})
    return TrialJob(str(search), "000001", recipe.canonical, dict(block), LaunchOptions(storage=str(storage)))


def records_of(job: TrialJob) -> TrialRecords:
    return read_trial(Path(job.folder) / TRIALS / job.trial)


def ended(job: TrialJob) -> dict[str, Any]:
    found = records_of(job).ended
    assert found is not None
    return dict(found.data)


def test_a_trial_that_completes_writes_its_result_and_is_not_run_again(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert run_job(job, node="a-node") == "completed"
    data = ended(job)
    assert (data["status"], data["error"], data["steps_trained"]) == ("completed", None, 4)
    assert "test/accuracy" not in data["result"]["metrics"]
    (attempt,) = records_of(job).attempts
    assert attempt.data["node"] == "a-node"
    # A worker that outlives its driver finds the trial over.
    assert run_job(job) == "completed"
    assert len(records_of(job).attempts) == 1


def test_what_a_retry_cannot_cure_fails_the_trial(tmp_path: Path) -> None:
    for number, (changes, kind, message) in enumerate(
        [
            ({"train": {**SMALL["train"], "optimizer": {"name": "sgd", "lr": 1e9}}}, "nan", "the loss is"),
            ({"mask": {"criterion": "broken-here", "sparsity": 0.5}}, "ValueError", "this criterion is broken"),
            ({"task": {**SMALL["task"], "data": "mnist"}}, "user", "mnist"),
        ]
    ):
        job = job_of(tmp_path / str(number), **changes)
        job = replace(job, options=replace(job.options, data_root=str(tmp_path / "nothing")))
        assert run_job(job) == "failed"
        data = ended(job)
        assert data["result"] is None
        assert data["error"]["kind"] == kind
        assert message in data["error"]["message"]


def test_a_trial_that_is_asked_to_stop_goes_on_from_its_state(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    ask_to_stop(Path(job.folder))
    assert run_job(job) == "preempted"
    assert records_of(job).ended is None
    (Path(job.folder) / "stop").unlink()
    assert run_job(job) == "completed"
    assert len(records_of(job).attempts) == 2
    # Nothing that the first attempt trained was trained again.
    assert ended(job)["result"]["steps_reused"] >= 1


def test_out_of_memory_is_tried_once_more_alone_and_then_fails(tmp_path: Path) -> None:
    job = job_of(tmp_path, task={**SMALL["task"], "model": "too-large"})
    assert run_job(job) == "oom"
    assert records_of(job).ended is None
    assert run_job(replace(job, alone=True)) == "failed"
    assert ended(job)["error"] == {
        "kind": "oom",
        "message": "the device is out of memory: CUDA out of memory. Tried 20.00 GiB.",
    }


def test_a_trial_that_shares_nothing_keeps_its_states_in_the_search(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert run_job(replace(job, options=replace(job.options, sharing=False))) == "completed"
    assert take_inventory(tmp_path).states == {}
    assert take_inventory(Path(job.folder) / UNSHARED / job.trial).states


def test_a_batch_that_is_too_small_for_its_workers_is_refused(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    wide = replace(job, search={**job.search, "workers_per_trial": 65})
    elastic = replace(job, search={**job.search, "workers_per_trial": {"at_least": 2, "at_most": 65}})
    for one in (wide, elastic):
        with pytest.raises(UserError, match=r"train\.batch: 64 examples cannot be split among 65 workers"):
            setup_of(one, torch.device("cpu"))
    assert setup_of(job, torch.device("cpu")).recipe.canonical == job.recipe


def test_what_is_stored_does_not_depend_on_how_many_workers_of_a_range_there_are(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    cpu = torch.device("cpu")
    asked = [1, 2, {"at_least": 1, "at_most": 2}, {"at_least": 2, "at_most": 4}]
    setups = [setup_of(replace(job, search={**job.search, "workers_per_trial": one}), cpu) for one in asked]
    assert [setup.environment.get("workers") for setup in setups] == [None, 2, "1-2", "2-4"]
    assert len({setup.key for setup in setups}) == 1
    assert len({setup.root() for setup in setups}) == 4


def test_every_pass_of_the_network_is_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[str] = []

    class Counted(Heartbeat):
        def __call__(self) -> None:
            beats.append("beat")
            super().__call__()

    monkeypatch.setattr("prune_search.search.ray.worker.Heartbeat", Counted)
    job = job_of(tmp_path)
    assert run_job(job, None) == "completed"
    plain = len(beats)
    beats.clear()
    scan = {"criterion": "sensitivity-scan", "sparsity": 0.5, "score": {"mode": "eval", "batches": 1}}
    # Each layer is pruned to ten levels and measured, without a step.
    job = job_of(tmp_path / "scan", mask={"at": "0it", **scan})
    assert run_job(job, None) == "completed"
    assert len(beats) >= plain + 10
