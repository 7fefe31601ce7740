"""What the driver asks of Ray for a trial, what it refuses before, and what it sends to the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_search import make_definition

from prune_search.ledger.records import SearchRecords, TrialRecords, read_search
from prune_search.recipe import strict_yaml
from prune_search.recipe.problems import UserError
from prune_search.recipe.space import known_epoch, read_space
from prune_search.search.launch_options import LaunchOptions
from prune_search.search.next_trial import NextTrial
from prune_search.search.ray import driver
from prune_search.search.ray.driver import Launched, _check_resources, _job, _resources
from prune_search.search.shared_tree import askable_stops
from prune_search.search.stop_request import StopRequest

SPACE = """\
task: {data: digits, model: mlp}
preset: late-rewinding
train: {steps: 3ep}
weights: {at: {hole: choice, of: [1ep, 2ep]}}
search: {sampler: tpe, trials: 2, concurrency: 2, controls: false, seed: 1}
"""


def block(**values: Any) -> dict[str, Any]:
    return {"cpus_per_trial": 1.0, "gpus_per_trial": 0.0, "workers_per_trial": 1, **values}


def test_what_this_machine_does_not_have_is_refused_with_both_figures() -> None:
    _check_resources({"CPU": 2.0}, block(cpus_per_trial=2.0))
    with pytest.raises(UserError) as refused:
        _check_resources({"CPU": 2.0}, block(cpus_per_trial=1.5, gpus_per_trial=0.5, workers_per_trial=2))
    assert [str(problem) for problem in refused.value.problems] == [
        "search.cpus_per_trial: a trial needs 1.5 CPUs for each of its 2 workers, but this machine has 2",
        "search.gpus_per_trial: a trial needs 0.5 GPUs for each of its 2 workers, but this machine has 0",
    ]


def test_a_search_goes_on_where_ray_ended_its_processes_and_gives_up_where_that_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ray.exceptions import OutOfMemoryError

    folder = make_definition(tmp_path, "monday", SPACE)
    space = read_space(strict_yaml.load(SPACE), "monday")
    launched = Launched(folder, space, LaunchOptions(storage=str(tmp_path), device="cpu"), 1437)
    raised: list[BaseException | None] = []
    out: Any = OutOfMemoryError

    def once(*_: Any) -> SearchRecords:
        cause = raised.pop(0)
        if cause is None:
            return read_search(folder)
        raise RuntimeError("Caught unexpected exception") from cause

    monkeypatch.setattr(driver, "_run_once", once)
    raised[:] = [out("much"), out("much"), None]
    assert driver.run_search(launched, StopRequest()).folder == folder
    assert [record.message for record in caplog.records] == [
        "a node ran low on memory, and Ray ended processes on it; the search goes on from its records"
    ] * 2
    raised[:] = [out("much")] * 4
    with pytest.raises(UserError, match="4 times in a row with no trial ended"):
        driver.run_search(launched, StopRequest())
    raised[:] = [ValueError("of somebody else")]
    with pytest.raises(RuntimeError, match="unexpected"):
        driver.run_search(launched, StopRequest())


def test_who_starts_several_workers_takes_no_cpu_from_them() -> None:
    config = {"job": {"alone": False}}
    for asked in (2, {"at_least": 1, "at_most": 8}):
        assert _resources(block(workers_per_trial=asked), 4.0, config).bundles == [{"memory": 1.0}]
    assert _resources(block(), 4.0, config).bundles == [{"CPU": 1.0}]


def test_a_worker_is_sent_its_recipe_and_which_steps_others_ask_for(tmp_path: Path) -> None:
    folder = make_definition(tmp_path, "monday", SPACE)
    space = read_space(strict_yaml.load(SPACE), "monday")
    options = LaunchOptions(storage=str(tmp_path), device="cpu")
    next_trial = NextTrial.open(folder, space, known_epoch, lambda: False, 1437)
    trial = next_trial.next()
    assert isinstance(trial, TrialRecords)
    grids = askable_stops(space, known_epoch, 1437)
    job = _job(trial, Launched(folder, space, options, 1437), next_trial.tree, grids)
    assert (job.folder, job.options, job.control, job.alone) == (str(folder), options, False, False)
    assert job.search == dict(space.search)
    epoch = known_epoch(space.fill(_First()).recipe())
    assert epoch is not None
    # The rewind points that trials to come can ask for, and the end of the training.
    assert {epoch, 2 * epoch} <= set(job.grid)


class _First:
    """Takes the first of everything."""

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        return 0

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        return low

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        return low


def test_of_a_range_of_workers_the_least_have_to_fit() -> None:
    _check_resources({"CPU": 2.0}, block(workers_per_trial={"at_least": 2, "at_most": 8}))
    with pytest.raises(UserError, match="each of its 3 workers"):
        _check_resources({"CPU": 2.0}, block(workers_per_trial={"at_least": 3, "at_most": 8}))
