"""A trial that several workers run together: Ray Train starts them and connects them with torch's process groups."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prune_search.ledger.progress import Progress
from prune_search.ledger.records import TRIALS, Recorder, read_trial
from prune_search.recipe.search_block import workers_of
from prune_search.search.ray.worker import OOM, PLACES, TrialJob, attempt, run_along
from prune_search.storage.files import one_line
from prune_search.storage.places import place_of

if TYPE_CHECKING:
    from prune_search.search.given_code import GivenCode

_log = logging.getLogger("prune_search")
# A worker that fails waits so long before it says so, in seconds: what the first one meets as well, it writes down.
GRACE_S = 5.0
# So long after its workers could not be started, an attempt asks for them again, in seconds.
AGAIN_S = 5.0
# So long Ray is given to let go the places of a lost attempt, in seconds.
GIVEN_UP_S = 30.0
# In the message of a worker that is not the first, and met what the first one did not.
OUT_OF_MEMORY = "prune-search: this worker's device is out of memory"


def trainable_together(config: Mapping[str, Any], given: GivenCode | None = None) -> None:
    """As `worker.trainable`, for a trial of several workers."""
    from ray import tune

    tune.report({"status": attempt_data_parallel(TrialJob.of_config(config, given))})


def attempt_data_parallel(job: TrialJob) -> str:
    """One attempt of a trial by as many workers as its search asks for; of a range, as there is room for.

    Args:
        job: the trial.

    Returns:
        As `worker.run_job`.

    Raises:
        ray.train.TrainingFailedError: a worker died or failed, so that the trial is tried again.
    """
    from ray.train import TrainingFailedError

    asked = workers_of(job.search)
    earlier = read_trial(place_of(job.folder) / TRIALS / job.trial).attempts
    before = len(earlier)
    for attempt_before in earlier:
        give_up(str(attempt_before.data.get(PLACES, "")))
    while True:
        try:
            _fit(job, asked.fitting(_room(job.search)) if asked.ranges else asked.most, asked.ranges)
        except TrainingFailedError as error:
            if asked.ranges and _not_started(error):
                # What was there a moment ago is not any more: a node that was lost, say.
                _log.warning("%s: its workers did not start and are requested again: %s", job.trial, one_line(error))
                time.sleep(AGAIN_S)
                continue
            if OUT_OF_MEMORY in str(error):
                _note_memory(job, before)
            # Where the first worker came to an end, the others were only left behind.
            if _word_of(job, before) is None:
                raise
        word = _word_of(job, before)
        return word if word is not None else "preempted"


def give_up(places: str) -> None:
    """Give up the places of an attempt that is over, where Ray still holds them.

    Ray Train does so itself, unless the process that started the workers was lost, with its node or by itself. Then an
    actor of Ray's does, which asks Ray's dashboard whether that process is alive: where no dashboard runs (a search on
    this machine alone has none) the places of the lost attempt would be held until the search ends.

    Args:
        places: Ray's id of the placement group, in hex; empty: not known.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    if not places:
        return
    group = PlacementGroup(ray.PlacementGroupID(bytes.fromhex(places)))

    def held() -> bool:
        found: Mapping[str, Any] = placement_group_table(group)
        return bool(found) and found.get("state") not in (None, "REMOVED")

    if not held():
        return
    _log.warning("the places of a lost attempt are given up")
    remove_placement_group(group)
    until = time.monotonic() + GIVEN_UP_S
    while held() and time.monotonic() < until:
        time.sleep(0.1)


def places_of_this_process() -> str:
    """Ray's id of the placement group that this process is in, in hex; empty where it is in none."""
    from ray.util.placement_group import get_current_placement_group

    group = get_current_placement_group()
    return "" if group is None else str(group.id.hex())


def _fit(job: TrialJob, workers: int, impatient: bool) -> None:
    """Have Ray Train start so many workers, and wait for their end.

    Args:
        job: the trial.
        workers: how many.
        impatient: whether it is an error that there is no room for them; else they wait for it.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig

    from prune_search.tasks.workers import WAIT_S

    scratch = tempfile.mkdtemp(prefix="prune-search-train-")
    needs = _needs(job.search)
    try:
        TorchTrainer(
            _work,
            train_loop_config={**job.as_config(), "given": job.options.given},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu="GPU" in needs, resources_per_worker=needs),
            torch_config=TorchConfig(timeout_s=WAIT_S),
            run_config=RunConfig(
                name=job.trial,
                storage_path=scratch,
                failure_config=FailureConfig(controller_failure_limit=0 if impatient else -1),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _needs(search: Mapping[str, Any]) -> dict[str, float]:
    """What each worker takes of its node."""
    return {kind: search[key] for kind, key in (("CPU", "cpus_per_trial"), ("GPU", "gpus_per_trial")) if search[key]}


def _room(search: Mapping[str, Any]) -> int:
    """How many workers the cluster has room for now."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return fitting(_needs(search), alive, ray.available_resources())  # type: ignore[no-untyped-call]


def fitting(needs: Mapping[str, float], nodes: Sequence[Mapping[str, float]], free: Mapping[str, float]) -> int:
    """How many workers there is room for.

    Args:
        needs: of each worker.
        nodes: what each of them has, also what is taken; a worker is on one.
        free: what nobody has taken, on all of them together.
    """

    def most(has: Mapping[str, float]) -> int:
        return min(int(has.get(kind, 0.0) / each) for kind, each in needs.items())

    return min(sum(most(has) for has in nodes), most(free))


def _not_started(error: Exception) -> bool:
    """Whether the workers of an attempt were not started at all."""
    from ray.train import ControllerError

    return isinstance(error, ControllerError)


def _word_of(job: TrialJob, before: int) -> str | None:
    """What the records say of how an attempt ended; None where they say nothing.

    Args:
        job: the trial.
        before: how many attempts there were before this one.
    """
    trial = read_trial(place_of(job.folder) / TRIALS / job.trial)
    if trial.ended is not None:
        return str(trial.ended.data["status"])
    if len(trial.attempts) <= before:
        return None
    last = trial.progress.get(trial.attempts[-1].attempt)
    if last is not None and last.oom:
        return OOM
    return "lacking" if last is not None and last.lacking is not None else None


def _note_memory(job: TrialJob, before: int) -> None:
    """Write down for the first worker that the device of another one is out of memory."""
    trial = read_trial(place_of(job.folder) / TRIALS / job.trial)
    if trial.ended is not None or len(trial.attempts) <= before:
        return
    number = trial.attempts[-1].attempt
    recorder = Recorder(place_of(job.folder), job.trial, number)
    if not job.alone:
        recorder.progress(replace(trial.progress.get(number, Progress()), oom=True))
        return
    error = {"kind": OOM, "message": OUT_OF_MEMORY}
    spent = {"steps_trained": 0, "steps_saved": 0, "seconds": 0.0, "training_seconds": 0.0}
    recorder.write("ended", {"status": "failed", "result": None, "error": error, **spent})


def _work(config: Mapping[str, Any]) -> None:
    """What every worker runs."""
    from prune_search.tasks.workers import EndedError, Workers
    from prune_search.training.state_store import PreemptedError
    from prune_search.trial.errors import TrialError

    job = TrialJob.of_config(config, config["given"])
    if job.search["gpus_per_trial"]:
        from ray.train.torch import get_device

        # The workers of a node see all its devices, and each has its own.
        job = replace(job, options=replace(job.options, device=str(get_device())))
    workers = Workers.joined()
    if workers.first:
        status = attempt(job, workers, places_of_this_process())
        if status in ("failed", OOM) and workers.several:
            # What only this one met the others wait for, and are ended with it.
            raise RuntimeError(f"the trial ended: {status}")
        return
    try:
        run_along(job, workers)
    except (EndedError, PreemptedError):
        return
    except Exception as error:
        time.sleep(GRACE_S)
        if isinstance(error, TrialError) and error.kind == OOM:
            raise RuntimeError(OUT_OF_MEMORY) from error
        raise
